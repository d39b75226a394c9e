// poisson: the fused CUDA kernel of `poisson.py`, which says what it computes; in float64 whatever the dtype.

const double LOGRATE_MAX = 20;

extern "C" __global__ void poisson(
    real* __restrict__ nll_rows,       // (R,)    out
    real* __restrict__ d_lograte,      // (R, D)  out
    counter* __restrict__ clamped,     // (1,)    in and out
    const real* __restrict__ lograte,  // (R, D)
    const real* __restrict__ X,        // (B, D)  counts
    row_weight weight, unsigned R, unsigned B, int D) {
    int outside = 0;
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * D, its = (size_t)(r % B) * D;
        const double w = weight[r];
        double nll = 0;
        for (int j = threadIdx.x; j < D; j += blockDim.x) {
            const double s = lograte[mine + j], x = X[its + j], c = s > LOGRATE_MAX ? LOGRATE_MAX : s;  // NaN stays NaN
            const bool inside = c == s;
            const double rate = exp(c);
            nll += rate - x * c + lgamma(x + 1);
            d_lograte[mine + j] = inside ? real(w * (rate - x)) : real(0);
            outside += !inside;
        }
        nll = row_sum(nll);
        if (threadIdx.x == 0) nll_rows[r] = real(nll);
    }
    outside = warp_sum(outside);
    if (threadIdx.x % 32 == 0 && outside) atomicAdd(clamped, (counter)outside);
}
