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
    rows_of_two_outputs(nll_rows, d_out, clamped, out, X, weight, R, B, D, [](real m, real s, real x) {
        real c = s < LOGVAR_MIN ? LOGVAR_MIN : s;  // NaN stays NaN
        c = c > LOGVAR_MAX ? LOGVAR_MAX : c;
        const bool inside = c == s;
        const real precision = exp(-c), delta = m - x, squared = delta * delta * precision;
        const real loss = real(0.5) * (squared + c + LN_2PI);
        return two_outputs<real>{loss, delta * precision, inside ? real(0.5) * (1 - squared) : real(0), inside};
    });
}

extern "C" __global__ void gaussian_fixed(
    real* __restrict__ nll_rows,    // (R,)    out
    real* __restrict__ d_mean,      // (R, D)  out
    const real* __restrict__ mean,  // (R, D)
    const real* __restrict__ X,     // (B, D)
    row_weight weight,
    real factor,                    // 1/2σ²
    real constant,                  // D ½ ln 2πσ²
    unsigned R, unsigned B, int D) {
    const auto point = [](real m, real x) { return one_output<real>{(m - x) * (m - x), 2 * (m - x)}; };
    rows_of_one_output(nll_rows, d_mean, nullptr, mean, X, weight, R, B, D, point, factor, constant);
}
