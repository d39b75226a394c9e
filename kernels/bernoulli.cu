// bernoulli: the fused CUDA kernel of `bernoulli.py`, which says what it computes.

extern "C" __global__ void bernoulli(
    real* __restrict__ nll_rows,      // (R,)    out
    real* __restrict__ d_logits,      // (R, D)  out
    const real* __restrict__ logits,  // (R, D)
    const real* __restrict__ X,       // (B, D)
    row_weight weight, unsigned R, unsigned B, int D) {
    const bool wide = D % WIDE == 0 && aligned<WIDE>(d_logits, logits, X);
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * D, its = (size_t)(r % B) * D;
        const real w = weight[r];
        real nll = 0;
        along(D, wide, [&](auto N, int j) {
            const auto l = load(N, logits + mine + j), x = load(N, X + its + j);
            auto d = l;
            for (int k = 0; k < N; ++k) {
                const real e = exp(-abs(l[k]));
                nll += (l[k] < 0 ? 0 : l[k]) - l[k] * x[k] + log1p_unit(e);
                d[k] = w * (ratio(l[k] >= 0 ? 1 : e, 1 + e) - x[k]);
            }
            store(d_logits + mine + j, d);
        });
        nll = row_sum(nll);
        if (threadIdx.x == 0) nll_rows[r] = nll;
    }
}
