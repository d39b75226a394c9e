// likelihood: the loops over rows and features (`_likelihood.py`). Where d_out is null, nll_rows alone is written. A likelihood hands in its formula for one feature,
// a lambda that returns one of these; it may compute in double whatever `real` is.

template <class T>
struct one_output {
    T loss, slope;
    bool inside = true;  // its range; outside it the output is clamped
};
template <class T>
struct two_outputs {
    T loss, first, second;  // the loss, and its slopes by the first output and the second
    bool inside;            // the second's range
};

inline __device__ void add_clamped(counter* __restrict__ clamped, int outside) {
    outside = warp_sum(outside);
    if (threadIdx.x % 32 == 0 && outside) atomicAdd(clamped, (counter)outside);
}

// Rows of D outputs; the loss of a row is factor × the points' own, plus the constant.
template <class Point>
__device__ void rows_of_one_output(
    real* __restrict__ nll_rows, real* __restrict__ d_out, counter* __restrict__ clamped, const real* __restrict__ out,
    const real* __restrict__ X, row_weight weight, unsigned R, unsigned B, int D, Point point, real factor = 1,
    real constant = 0) {
    using number_ = decltype(point(real(), real()).loss);
    const bool wide = D % WIDE == 0 && aligned<WIDE>(d_out, out, X);
    int outside = 0;
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * D, its = (size_t)(r % B) * D;
        const number_ w = weight[r] * factor;
        number_ nll = 0;
        along(D, wide, [&](auto N, int j) {
            const auto y = load(N, out + mine + j), x = load(N, X + its + j);
            auto d = y;
            for (int k = 0; k < N; ++k) {
                const auto at = point(y[k], x[k]);
                nll += at.loss;
                d[k] = real(w * at.slope);
                outside += !at.inside;
            }
            if (d_out) store(d_out + mine + j, d);
        });
        nll = row_sum(nll);
        if (threadIdx.x == 0) nll_rows[r] = real(factor * nll + constant);
    }
    if (d_out && clamped) add_clamped(clamped, outside);
}

// Rows of 2D outputs: the first of every feature, then the second.
template <class Point>
__device__ void rows_of_two_outputs(
    real* __restrict__ nll_rows, real* __restrict__ d_out, counter* __restrict__ clamped, const real* __restrict__ out,
    const real* __restrict__ X, row_weight weight, unsigned R, unsigned B, int D, Point point) {
    const bool wide = D % WIDE == 0 && aligned<WIDE>(d_out, out, X);
    int outside = 0;
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * 2 * D, its = (size_t)(r % B) * D;
        const real w = weight[r];
        real nll = 0;
        along(D, wide, [&](auto N, int j) {
            const auto y = load(N, out + mine + j), s = load(N, out + mine + D + j), x = load(N, X + its + j);
            auto dy = y, ds = s;
            for (int k = 0; k < N; ++k) {
                const auto at = point(y[k], s[k], x[k]);
                nll += at.loss;
                dy[k] = w * at.first;
                ds[k] = w * at.second;
                outside += !at.inside;
            }
            if (!d_out) return;
            store(d_out + mine + j, dy);
            store(d_out + mine + D + j, ds);
        });
        nll = row_sum(nll);
        if (threadIdx.x == 0) nll_rows[r] = nll;
    }
    if (d_out && clamped) add_clamped(clamped, outside);
}
