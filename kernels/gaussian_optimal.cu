// gaussian_optimal: the fused CUDA kernels of `gaussian_optimal.py`, which says what they compute. Two launches: the
// squared errors, then σ̂² from them, in every block alike, and what follows from it.

const double LN_2PI = 1.8378770664093454836;
const double VARIANCE_MIN = 4.5399929762484851536e-05, VARIANCE_MAX = 22026.465794806716517;  // e^∓10

extern "C" __global__ void gaussian_optimal_errors(
    real* __restrict__ squared_rows,  // (R,)             out: ‖x − m‖²
    double* __restrict__ partial,     // (2, gridDim.x)   out: Σ w ‖x − m‖² and Σ w of each block's rows
    const real* __restrict__ mean,    // (R, D)
    const real* __restrict__ X,       // (B, D)
    row_weight weight, unsigned R, unsigned B, int D) {
    const bool wide = D % WIDE == 0 && aligned<WIDE>(mean, X);
    double error = 0, weights = 0;
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * D, its = (size_t)(r % B) * D;
        real squared = 0;
        along(D, wide, [&](auto N, int j) {
            const auto m = load(N, mean + mine + j), x = load(N, X + its + j);
            for (int k = 0; k < N; ++k) squared += (m[k] - x[k]) * (m[k] - x[k]);
        });
        squared = row_sum(squared);
        if (threadIdx.x == 0) {
            const real w = weight.at ? weight[r] : real(1);  // one for all: it cancels
            squared_rows[r] = squared;
            error += w * squared;
            weights += w;
        }
    }
    error = block_sum(error);
    weights = block_sum(weights);
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        partial[blockIdx.x] = error;
        partial[gridDim.x + blockIdx.x] = weights;
    }
}

extern "C" __global__ void gaussian_optimal(
    real* __restrict__ nll_rows,         // (R,)    in: ‖x − m‖²; out
    real* __restrict__ d_mean,           // (R, D)  out
    double* __restrict__ squared_error,  // (1,)    out
    counter* __restrict__ clamped,       // (1,)    in and out
    const double* __restrict__ partial,  // (2, blocks)
    const real* __restrict__ mean,       // (R, D)
    const real* __restrict__ X,          // (B, D)
    row_weight weight, int blocks, unsigned R, unsigned B, int D) {
    double total = 0, weights = 0;
    const int first = threadIdx.y * blockDim.x + threadIdx.x, step = blockDim.x * blockDim.y;
    for (int b = first; b < blocks; b += step) {
        total += partial[b];
        weights += partial[blocks + b];
    }
    total = block_sum(total);
    weights = block_sum(weights);
    const double error = total / (weights * D);
    double variance = error < VARIANCE_MIN ? VARIANCE_MIN : error;  // NaN stays NaN
    variance = variance > VARIANCE_MAX ? VARIANCE_MAX : variance;
    if (blockIdx.x == 0 && first == 0) {
        *squared_error = error;
        *clamped += variance != error;
    }
    const real precision = real(1 / variance), constant = real(D * (LN_2PI + log(variance)));
    const bool wide = D % WIDE == 0 && aligned<WIDE>(d_mean, mean, X);
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * D, its = (size_t)(r % B) * D;
        const real scale = weight[r] * precision;
        along(D, wide, [&](auto N, int j) {
            const auto m = load(N, mean + mine + j), x = load(N, X + its + j);
            auto dm = m;
            for (int k = 0; k < N; ++k) dm[k] = scale * (m[k] - x[k]);
            store(d_mean + mine + j, dm);
        });
        if (threadIdx.x == 0) nll_rows[r] = real(0.5) * (nll_rows[r] * precision + constant);
    }
}
