// rmsprop: the fused CUDA kernel of `rmsprop.py`, which says what it computes.

extern "C" __global__ void rmsprop(
    real* __restrict__ P,        // (n,)  in and out
    real* __restrict__ A,        // (n,)  in and out
    real* __restrict__ V,        // (n,)  in and out; null without momentum
    const real* __restrict__ G,  // (n,)
    number lr_, double rho_, double eps_, double momentum_, double weight_decay_, long long n) {
    const real lr = lr_, rho = rho_, rest = 1 - rho_, eps = eps_, momentum = momentum_, weight_decay = weight_decay_;
    each(n, aligned<WIDE>(P, A, V, G), [&](auto N, long long i) {
        auto p = load(N, P + i), a = load(N, A + i), step = a;
        const auto G_i = load(N, G + i);
        for (int k = 0; k < N; ++k) {
            const real g = G_i[k] + weight_decay * p[k];
            a[k] = flushed(rho * a[k] + rest * (g * g));
            step[k] = g / (sqrt(a[k]) + eps);
        }
        store(A + i, a);
        if (V) {
            const auto v = load(N, V + i);
            for (int k = 0; k < N; ++k) step[k] = flushed(momentum * v[k] + step[k]);
            store(V + i, step);
        }
        for (int k = 0; k < N; ++k) p[k] -= lr * step[k];
        store(P + i, p);
    });
}
