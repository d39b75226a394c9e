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
    rows_of_two_outputs(nll_rows, d_out, clamped, out, X, weight, R, B, D, [](real m, real s, real x) {
        real c = s < LOGSCALE_MIN ? LOGSCALE_MIN : s;  // NaN stays NaN
        c = c > LOGSCALE_MAX ? LOGSCALE_MAX : c;
        const bool inside = c == s;
        const real rate = exp(-c), delta = m - x, error = abs(delta) * rate;
        const real dm = delta == 0 ? real(0) : delta < 0 ? -rate : rate;
        return two_outputs<real>{error + c + LN_2, dm, inside ? 1 - error : real(0), inside};
    });
}
