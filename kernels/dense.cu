// dense: the fused CUDA kernels of `dense.py`, which says what they compute.
//
// An activation is a struct of two functions: f(a), and its slope f′ from what is kept, y = f(a) and (for silu) a.
// Where it does not bend, dA is dY already and is not written.

struct identity {
    static constexpr bool bends = false;
    static __device__ real f(real a) { return a; }
    static __device__ real slope(real, real) { return 1; }
};
struct relu {
    static constexpr bool bends = true;
    static __device__ real f(real a) { return a < 0 ? 0 : a; }  // NaN stays NaN
    static __device__ real slope(real y, real) { return y > 0; }
};
struct tanh_ {
    static constexpr bool bends = true;
    static __device__ real f(real a) { return tanh(a); }
    static __device__ real slope(real y, real) { return 1 - y * y; }
};
struct sigmoid_ {
    static constexpr bool bends = true;
    static __device__ real f(real a) { return sigmoid(a); }
    static __device__ real slope(real y, real) { return y * (1 - y); }
};
struct softplus_ {
    static constexpr bool bends = true;
    static __device__ real f(real a) { return softplus(a); }
    static __device__ real slope(real y, real) { return -expm1(-y); }
};
struct silu {
    static constexpr bool bends = true;
    static __device__ real f(real a) { return a * sigmoid(a); }
    static __device__ real slope(real y, real a) {
        const real s = sigmoid(a);
        return s + y * (1 - s);
    }
};

template <class Activation>
__device__ void forward(real* Y, real* A, const real* b, unsigned B, int H) {
    const bool wide = H % WIDE == 0 && aligned<WIDE>(Y, A, b);
    for (unsigned r = first_row(); r < B; r += next_rows()) {
        const size_t mine = (size_t)r * H;
        along(H, wide, [&](auto N, int j) {
            auto a = load(N, Y + mine + j), y = a;
            const auto bias = load(N, b + j);
            for (int k = 0; k < N; ++k) {
                a[k] += bias[k];
                y[k] = Activation::f(a[k]);
            }
            if (A) store(A + mine + j, a);
            store(Y + mine + j, y);
        });
    }
}

template <class Activation>
__device__ void backward(real* dA, real* sums, const real* Y, const real* A, unsigned B, int H) {
    const bool wide = H % WIDE == 0 && aligned<WIDE>(dA, sums, Y, A);
    column_sums(sums, B, H, wide, [&](auto N, unsigned r, int j) {
        const size_t here = (size_t)r * H + j;
        auto d = load(N, dA + here);
        const auto y = load(N, Y + here), a = A ? load(N, A + here) : y;
        for (int k = 0; k < N; ++k) d[k] *= Activation::slope(y[k], a[k]);
        if (Activation::bends) store(dA + here, d);
        return d;
    });
}

// `activation` is the name's place in ACTIVATIONS of `dense.py`.
#define FOR_EACH_ACTIVATION(call)                  \
    switch (activation) {                          \
        case 0: { typedef identity f; call; break; }  \
        case 1: { typedef relu f; call; break; }      \
        case 2: { typedef tanh_ f; call; break; }     \
        case 3: { typedef sigmoid_ f; call; break; }  \
        case 4: { typedef softplus_ f; call; break; } \
        case 5: { typedef silu f; call; break; }      \
    }

extern "C" __global__ void dense_forward(
    real* __restrict__ Y,        // (B, H)  in: XW; out: f(A)
    real* __restrict__ A,        // (B, H)  out: XW + b; null unless it is kept
    const real* __restrict__ b,  // (H,)
    int activation, unsigned B, int H) {
    FOR_EACH_ACTIVATION(forward<f>(Y, A, b, B, H))
}

// dA ← dA ⊙ f′, and sums[y] ← its sum over the rows of the y-th of gridDim.y blocks: db itself where there is one.
extern "C" __global__ void dense_backward(
    real* __restrict__ dA,       // (B, H)  in: dY; out: dA
    real* __restrict__ sums,     // (gridDim.y, H)  out
    const real* __restrict__ Y,  // (B, H)
    const real* __restrict__ A,  // (B, H)  null unless it is kept
    int activation, unsigned B, int H) {
    FOR_EACH_ACTIVATION(backward<f>(dA, sums, Y, A, B, H))
}

extern "C" __global__ void dense_add_partial(
    real* __restrict__ db,             // (H,)    out
    const real* __restrict__ partial,  // (P, H)
    unsigned P, int H) {
    const bool wide = H % WIDE == 0 && aligned<WIDE>(db, partial);
    column_sums(db, P, H, wide, [&](auto N, unsigned p, int j) { return load(N, partial + (size_t)p * H + j); });
}
