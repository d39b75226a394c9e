// bernoulli: the fused CUDA kernel of `bernoulli.py`, which says what it computes.

extern "C" __global__ void bernoulli(
    real* __restrict__ nll_rows,      // (R,)    out
    real* __restrict__ d_logits,      // (R, D)  out
    const real* __restrict__ logits,  // (R, D)
    const real* __restrict__ X,       // (B, D)
    row_weight weight, unsigned R, unsigned B, int D) {
    rows_of_one_output(nll_rows, d_logits, nullptr, logits, X, weight, R, B, D, [](real l, real x) {
        const real e = exp(-abs(l));
        return one_output<real>{(l < 0 ? 0 : l) - l * x + log1p_unit(e), ratio(l >= 0 ? 1 : e, 1 + e) - x};
    });
}
