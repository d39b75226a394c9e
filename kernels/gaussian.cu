// gaussian: the fused CUDA kernels of `gaussian.py`, which says what they compute.

const real LOGVAR_MIN = -10, LOGVAR_MAX = 10;
const real LN_2PI = real(1.8378770664093454836);

extern "C" __global__ void gaussian(
    real* __restrict__ nll_rows,    // (R,)     out
    real* __restrict__ d_out,       // (R, 2D)  out
    counter* __restrict__ clamped,  // (1,)     in and out
    const real* __restrict__ out,   // (R, 2D)  mean, then log-variance
    const real* __restrict__ X,     // (B, D)
    row_weight weight, unsigned R, unsigned B, int D) {
    const bool wide = D % WIDE == 0 && aligned<WIDE>(d_out, out, X);
    int outside = 0;
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * 2 * D, its = (size_t)(r % B) * D;
        const real w = weight[r];
        real nll = 0;
        along(D, wide, [&](auto N, int j) {
            const auto m = load(N, out + mine + j), s = load(N, out + mine + D + j), x = load(N, X + its + j);
            auto dm = m, ds = s;
            for (int k = 0; k < N; ++k) {
                real c = s[k] < LOGVAR_MIN ? LOGVAR_MIN : s[k];  // NaN stays NaN
                c = c > LOGVAR_MAX ? LOGVAR_MAX : c;
                const bool inside = c == s[k];
                const real precision = exp(-c), delta = m[k] - x[k], squared = delta * delta * precision;
                nll += squared + c + LN_2PI;
                dm[k] = w * delta * precision;
                ds[k] = inside ? w * real(0.5) * (1 - squared) : real(0);
                outside += !inside;
            }
            store(d_out + mine + j, dm);
            store(d_out + mine + D + j, ds);
        });
        nll = real(0.5) * row_sum(nll);
        if (threadIdx.x == 0) nll_rows[r] = nll;
    }
    outside = warp_sum(outside);
    if (threadIdx.x % 32 == 0 && outside) atomicAdd(clamped, (counter)outside);
}

extern "C" __global__ void gaussian_fixed(
    real* __restrict__ nll_rows,    // (R,)    out
    real* __restrict__ d_mean,      // (R, D)  out
    const real* __restrict__ mean,  // (R, D)
    const real* __restrict__ X,     // (B, D)
    row_weight weight,
    real precision,                 // 1/σ²
    real constant,                  // D ln 2πσ²
    unsigned R, unsigned B, int D) {
    const bool wide = D % WIDE == 0 && aligned<WIDE>(d_mean, mean, X);
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * D, its = (size_t)(r % B) * D;
        const real w = weight[r] * precision;
        real squared = 0;
        along(D, wide, [&](auto N, int j) {
            const auto m = load(N, mean + mine + j), x = load(N, X + its + j);
            auto dm = m;
            for (int k = 0; k < N; ++k) {
                const real delta = m[k] - x[k];
                squared += delta * delta;
                dm[k] = w * delta;
            }
            store(d_mean + mine + j, dm);
        });
        squared = row_sum(squared);
        if (threadIdx.x == 0) nll_rows[r] = real(0.5) * (squared * precision + constant);
    }
}
