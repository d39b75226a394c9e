// adam: the fused CUDA kernel of `adam.py`, which says what it computes.

extern "C" __global__ void adam(
    real* __restrict__ P,        // (n,)  in and out
    real* __restrict__ M,        // (n,)  in and out
    real* __restrict__ V,        // (n,)  in and out
    const real* __restrict__ G,  // (n,)
    number lr, double beta1_, double beta2_, double eps_, double l2_, number decay_, number correction1,
    number correction2, long long n) {
    const real beta1 = beta1_, rest1 = 1 - beta1_, beta2 = beta2_, rest2 = 1 - beta2_;  // 1 − β in float64: `adam.py`
    const real eps = eps_, l2 = l2_, decay = decay_;
    const real step = real(lr) / real(correction1), root2 = 1 / sqrt(real(correction2));
    each(n, aligned<WIDE>(P, M, V, G), [&](auto N, long long i) {
        auto p = load(N, P + i), m = load(N, M + i), v = load(N, V + i);
        const auto G_i = load(N, G + i);
        for (int k = 0; k < N; ++k) {
            const real g = G_i[k] + l2 * p[k];
            m[k] = flushed(beta1 * m[k] + rest1 * g);
            v[k] = flushed(beta2 * v[k] + rest2 * (g * g));
            p[k] -= decay * p[k] + step * m[k] / (sqrt(v[k]) * root2 + eps);
        }
        store(M + i, m);
        store(V + i, v);
        store(P + i, p);
    });
}
