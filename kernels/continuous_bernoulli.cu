// continuous_bernoulli: the fused CUDA kernel of `continuous_bernoulli.py`, which says what it computes.

const real NEAR = 2, SMALLEST = real(1e-18);

// g(a) for 0 ≤ a < 2: Bernoulli's numbers by factorials, the highest power first; float32 needs half of them.
inline __device__ real mean_near(real a) {
    const real q = a * a;
    real g = 0;
    if (sizeof(real) == sizeof(double)) {
        g = g * q + real(1.455172475614865e-27);
        g = g * q + real(-5.744790668872202e-26);
        g = g * q + real(2.267952452337683e-24);
        g = g * q + real(-8.953517427037546e-23);
        g = g * q + real(3.534707039629467e-21);
        g = g * q + real(-1.3954464685812522e-19);
        g = g * q + real(5.5090028283602295e-18);
        g = g * q + real(-2.174868698558062e-16);
    }
    g = g * q + real(8.586062056277845e-15);
    g = g * q + real(-3.3896802963225827e-13);
    g = g * q + real(1.3382536530684679e-11);
    g = g * q + real(-5.284190138687493e-10);
    g = g * q + real(2.08767569878681e-08);
    g = g * q + real(-8.267195767195768e-07);
    g = g * q + real(3.306878306878307e-05);
    g = g * q + real(-0.001388888888888889);
    g = g * q + real(0.08333333333333333);
    return g * a;
}

extern "C" __global__ void continuous_bernoulli(
    real* __restrict__ nll_rows,      // (R,)    out
    real* __restrict__ d_logits,      // (R, D)  out
    const real* __restrict__ logits,  // (R, D)
    const real* __restrict__ X,       // (B, D)
    row_weight weight, unsigned R, unsigned B, int D) {
    rows_of_one_output(nll_rows, d_logits, nullptr, logits, X, weight, R, B, D, [](real l, real x) {
        real a = abs(l);
        a = a < SMALLEST ? SMALLEST : a;  // NaN stays NaN
        const real t = -expm1(-a), above = a < NEAR ? real(0.5) + mean_near(a) : (a - t) / (a * t);
        return one_output<real>{real(0.5) * a + log(t / a) + l * (real(0.5) - x), (l < 0 ? 1 - above : above) - x};
    });
}
