// adagrad: the fused CUDA kernel of `adagrad.py`, which says what it computes.

extern "C" __global__ void adagrad(
    real* __restrict__ P,        // (n,)  in and out
    real* __restrict__ A,        // (n,)  in and out
    const real* __restrict__ G,  // (n,)
    number lr_, double eps_, double weight_decay_, long long n) {
    const real lr = lr_, eps = eps_, weight_decay = weight_decay_;
    each(n, aligned<WIDE>(P, A, G), [&](auto N, long long i) {
        auto p = load(N, P + i), a = load(N, A + i);
        const auto G_i = load(N, G + i);
        for (int k = 0; k < N; ++k) {
            const real g = G_i[k] + weight_decay * p[k];
            a[k] += g * g;
            p[k] -= lr * g / (sqrt(a[k]) + eps);
        }
        store(A + i, a);
        store(P + i, p);
    });
}
