// categorical: the fused CUDA kernel of `categorical.py`, which says what it computes.

extern "C" __global__ void categorical(
    real* __restrict__ nll_rows,      // (R,)      out
    real* __restrict__ d_logits,      // (R, K D)  out
    const real* __restrict__ logits,  // (R, K D)  K blocks of D
    const real* __restrict__ X,       // (B, D)    classes
    row_weight weight, unsigned R, unsigned B, int D, int K) {
    const bool wide = D % WIDE == 0 && aligned<WIDE>(d_logits, logits, X);
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * K * D, its = (size_t)(r % B) * D;
        const real w = weight[r];
        real nll = 0;
        along(D, wide, [&](auto N, int j) {
            const auto x = load(N, X + its + j);
            auto largest = load(N, logits + mine + j), total = x;
            for (int n = 0; n < N; ++n) total[n] = 0;
            for (int k = 1; k < K; ++k) {
                const auto l = load(N, logits + mine + (size_t)k * D + j);
                for (int n = 0; n < N; ++n) largest[n] = l[n] < largest[n] ? largest[n] : l[n];  // NaN ends in the sum
            }
            for (int k = 0; k < K; ++k) {
                const auto l = load(N, logits + mine + (size_t)k * D + j);
                for (int n = 0; n < N; ++n) {
                    total[n] += exp(l[n] - largest[n]);
                    nll -= x[n] == k ? l[n] - largest[n] : real(0);
                }
            }
            for (int n = 0; n < N; ++n) {
                nll += log(total[n]);
                total[n] = w / total[n];
            }
            if (!d_logits) return;
            for (int k = 0; k < K; ++k) {
                const size_t here = mine + (size_t)k * D + j;
                auto l = load(N, logits + here);
                for (int n = 0; n < N; ++n) l[n] = total[n] * exp(l[n] - largest[n]) - (x[n] == k ? w : real(0));
                store(d_logits + here, l);
            }
        });
        nll = row_sum(nll);
        if (threadIdx.x == 0) nll_rows[r] = nll;
    }
}
