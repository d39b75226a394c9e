// norm: the fused CUDA kernels of `norm.py`, which says what they compute. Two launches: the sums of the squares that
// each block meets, then the norm from them, in every block alike, and the scaling.

extern "C" __global__ void squares(
    double* __restrict__ partial,  // (gridDim.x,)  out
    const real* __restrict__ G,    // (n,)
    long long n) {
    double sum = 0;
    each(n, aligned<WIDE>(G), [&](auto N, long long i) {
        const auto g = load(N, G + i);
        for (int k = 0; k < N; ++k) sum += (double)g[k] * g[k];
    });
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void clip_norm(
    real* __restrict__ G,                // (n,)  in and out
    double* __restrict__ norm,           // (1,)  out
    number max_norm,
    const double* __restrict__ partial,  // (blocks,)
    int blocks, long long n) {
    double sum = 0;
    for (int b = threadIdx.x; b < blocks; b += blockDim.x) sum += partial[b];
    const double its_norm = sqrt(block_sum(sum)), factor = max_norm / (its_norm + 1e-6);
    if (thread() == 0) *norm = its_norm;
    if (factor >= 1) return;  // NaN clips too, and spreads
    const real scale = factor;
    each(n, aligned<WIDE>(G), [&](auto N, long long i) {
        auto g = load(N, G + i);
        for (int k = 0; k < N; ++k) g[k] *= scale;
        store(G + i, g);
    });
}
