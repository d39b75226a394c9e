// gaussian_shared: the fused CUDA kernels of `gaussian_shared.py`, which says what they compute. Two launches: the rows,
// with what each block's rows say of the learned ln σ², and the sum of that.

const real LOGVAR_MIN = -10, LOGVAR_MAX = 10;
const real LN_2PI = real(1.8378770664093454836);

inline __device__ real within(real logvar) {  // NaN stays NaN
    const real c = logvar < LOGVAR_MIN ? LOGVAR_MIN : logvar;
    return c > LOGVAR_MAX ? LOGVAR_MAX : c;
}

extern "C" __global__ void gaussian_shared(
    real* __restrict__ nll_rows,      // (R,)          out
    real* __restrict__ d_mean,        // (R, D)        out
    double* __restrict__ partial,     // (gridDim.x,)  out
    const real* __restrict__ mean,    // (R, D)
    const real* __restrict__ logvar,  // (1,)
    const real* __restrict__ X,       // (B, D)
    row_weight weight, unsigned R, unsigned B, int D) {
    const bool wide = D % WIDE == 0 && aligned<WIDE>(d_mean, mean, X);
    const real c = within(*logvar), precision = exp(-c), constant = D * (c + LN_2PI);
    double slope = 0;
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * D, its = (size_t)(r % B) * D;
        const real w = weight[r], scale = w * precision;
        real squared = 0;
        along(D, wide, [&](auto N, int j) {
            const auto m = load(N, mean + mine + j), x = load(N, X + its + j);
            auto dm = m;
            for (int k = 0; k < N; ++k) {
                const real delta = m[k] - x[k];
                squared += delta * delta;
                dm[k] = scale * delta;
            }
            if (d_mean) store(d_mean + mine + j, dm);
        });
        squared = row_sum(squared) * precision;
        if (threadIdx.x == 0) {
            nll_rows[r] = real(0.5) * (squared + constant);
            slope += w * (D - squared);
        }
    }
    slope = block_sum(slope);
    if (threadIdx.x == 0 && threadIdx.y == 0) partial[blockIdx.x] = slope;
}

extern "C" __global__ void gaussian_shared_logvar(
    real* __restrict__ d_logvar,          // (1,)       out
    counter* __restrict__ clamped,        // (1,)       in and out
    const double* __restrict__ partial,   // (blocks,)
    const real* __restrict__ logvar,      // (1,)
    int blocks) {
    double slope = 0;
    for (int b = threadIdx.x; b < blocks; b += blockDim.x) slope += partial[b];
    slope = block_sum(slope);
    if (threadIdx.x > 0) return;
    const bool inside = within(*logvar) == *logvar;
    *d_logvar = inside ? real(0.5 * slope) : real(0);
    *clamped += !inside;
}
