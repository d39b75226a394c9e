// poisson: the fused CUDA kernel of `poisson.py`, which says what it computes; in float64 whatever the dtype.

const double LOGRATE_MAX = 20;

extern "C" __global__ void poisson(
    real* __restrict__ nll_rows,       // (R,)    out
    real* __restrict__ d_lograte,      // (R, D)  out
    counter* __restrict__ clamped,     // (1,)    in and out
    const real* __restrict__ lograte,  // (R, D)
    const real* __restrict__ X,        // (B, D)  counts
    row_weight weight, unsigned R, unsigned B, int D) {
    rows_of_one_output(nll_rows, d_lograte, clamped, lograte, X, weight, R, B, D, [](double s, double x) {
        const double c = s > LOGRATE_MAX ? LOGRATE_MAX : s, rate = exp(c);  // NaN stays NaN
        const bool inside = c == s;
        return one_output<double>{rate - x * c + lgamma(x + 1), inside ? rate - x : 0, inside};
    });
}
