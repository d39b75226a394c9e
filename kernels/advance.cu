// advance: the CUDA kernel of `advance.py`, which says what it computes. One block: all read the cursor before it moves.

extern "C" __global__ void advance(
    double* __restrict__ now,             // (K,)        out
    long long* __restrict__ index,        // (B,)        out
    long long* __restrict__ cursor,       // (2,)        in and out
    const double* __restrict__ table,     // (steps, K)
    const long long* __restrict__ order,  // (N,)
    int K, int B) {
    const double* its_numbers = table + cursor[0] * K;
    const long long* its_rows = order + cursor[1];
    for (int k = threadIdx.x; k < K; k += blockDim.x) now[k] = its_numbers[k];
    for (int i = threadIdx.x; i < B; i += blockDim.x) index[i] = its_rows[i];
    __syncthreads();
    if (threadIdx.x == 0) {
        cursor[0] += 1;
        cursor[1] += B;
    }
}
