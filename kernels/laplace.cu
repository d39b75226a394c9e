// laplace: the fused CUDA kernel of `laplace.py`, which says what it computes.

const real LOGSCALE_MIN = -5, LOGSCALE_MAX = 5;
const real LN_2 = real(0.69314718055994530942);

extern "C" __global__ void laplace(
    real* __restrict__ nll_rows,    // (R,)     out
    real* __restrict__ d_out,       // (R, 2D)  out
    counter* __restrict__ clamped,  // (1,)     in and out
    const real* __restrict__ out,   // (R, 2D)  mean, then log-scale
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
                real c = s[k] < LOGSCALE_MIN ? LOGSCALE_MIN : s[k];  // NaN stays NaN
                c = c > LOGSCALE_MAX ? LOGSCALE_MAX : c;
                const bool inside = c == s[k];
                const real rate = exp(-c), delta = m[k] - x[k], error = abs(delta) * rate;
                nll += error + c + LN_2;
                dm[k] = delta == 0 ? real(0) : w * (delta < 0 ? -rate : rate);
                ds[k] = inside ? w * (1 - error) : real(0);
                outside += !inside;
            }
            store(d_out + mine + j, dm);
            store(d_out + mine + D + j, ds);
        });
        nll = row_sum(nll);
        if (threadIdx.x == 0) nll_rows[r] = nll;
    }
    outside = warp_sum(outside);
    if (threadIdx.x % 32 == 0 && outside) atomicAdd(clamped, (counter)outside);
}
