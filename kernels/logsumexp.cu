// logsumexp: the fused CUDA kernel of `logsumexp.py`, which says what it computes. A warp for each column.

extern "C" __global__ void log_sum_exp(
    real* __restrict__ largest,      // (b,)    in and out
    real* __restrict__ total,        // (b,)    in and out
    real* __restrict__ squares,      // (b,)    in and out
    const real* __restrict__ log_w,  // (k, b)
    int K, unsigned columns) {
    for (unsigned i = first_row(); i < columns; i += next_rows()) {
        const real before = largest[i];
        real highest = before;
        for (int k = threadIdx.x; k < K; k += 32) {
            const real x = log_w[(size_t)k * columns + i];
            highest = highest > x ? highest : x;
        }
        highest = warp_max(highest);
        real sum = 0, sum2 = 0;
        for (int k = threadIdx.x; k < K; k += 32) {
            const real w = exp(log_w[(size_t)k * columns + i] - highest);
            sum += w;
            sum2 += w * w;
        }
        sum = warp_sum(sum);
        sum2 = warp_sum(sum2);
        if (threadIdx.x == 0) {
            const real shrink = exp(before - highest);
            largest[i] = highest;
            total[i] = total[i] * shrink + sum;
            squares[i] = squares[i] * (shrink * shrink) + sum2;
        }
    }
}
