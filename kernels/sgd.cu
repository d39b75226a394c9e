// sgd: the fused CUDA kernel of `sgd.py`, which says what it computes.

extern "C" __global__ void sgd(
    real* __restrict__ P,        // (n,)  in and out
    real* __restrict__ V,        // (n,)  in and out; null without momentum
    const real* __restrict__ G,  // (n,)
    number lr_, double momentum_, int nesterov, double weight_decay_, long long n) {
    const real lr = lr_, momentum = momentum_, weight_decay = weight_decay_;
    each(n, aligned<WIDE>(P, V, G), [&](auto N, long long i) {
        auto p = load(N, P + i), g = load(N, G + i);
        for (int k = 0; k < N; ++k) g[k] += weight_decay * p[k];
        if (V) {
            auto v = load(N, V + i);
            for (int k = 0; k < N; ++k) {
                v[k] = flushed(momentum * v[k] + g[k]);
                g[k] = nesterov ? g[k] + momentum * v[k] : v[k];
            }
            store(V + i, v);
        }
        for (int k = 0; k < N; ++k) p[k] -= lr * g[k];
        store(P + i, p);
    });
}
