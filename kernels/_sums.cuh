// sums: over a warp, a block, the columns of a matrix. The order of the additions depends on the shape of the launch
// and on nothing else, and no float is added atomically: the same arguments give the same bits, every time.

enum : unsigned { ALL = 0xffffffff };  // the lanes of a warp

// The sum over a warp, in every lane of it.
template <class T>
__device__ T warp_sum(T x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
    return x;
}

template <class T>
__device__ T warp_max(T x) {
    for (int step = 16; step > 0; step /= 2) {
        const T other = __shfl_xor_sync(ALL, x, step);
        x = other > x ? other : x;
    }
    return x;
}

// The sum over a block, in every thread of it. All threads must call it, equally often.
template <class T>
__device__ T block_sum(T x) {
    __shared__ T of_warp[32];
    const int mine = threadIdx.y * blockDim.x + threadIdx.x, warps = blockDim.x * blockDim.y / 32;
    x = warp_sum(x);
    if (mine % 32 == 0) of_warp[mine / 32] = x;
    __syncthreads();
    T total = 0;
    for (int warp = 0; warp < warps; ++warp) total += of_warp[warp];
    __syncthreads();  // no thread writes the next sum before all have read this one
    return total;
}

// The sum over the threads of one row: a warp (blockDim.x = 32), or a block of its own (blockDim.y = 1).
template <class T>
__device__ T row_sum(T x) {
    return blockDim.x == 32 ? warp_sum(x) : block_sum(x);
}

// ---- sums over rows: a block of (32, STRIP_ROWS) threads adds up a strip of columns ------------------------------

enum { STRIP_ROWS = 8 };

template <int n, class F>
__device__ void strips(lanes<n> N, real* sums, unsigned R, int H, F f) {
    __shared__ pack<real, n> of_row[STRIP_ROWS][32];
    for (int strip = blockIdx.x; strip * 32 * n < H; strip += gridDim.x) {
        const int j = (strip * 32 + threadIdx.x) * n;
        pack<real, n> sum = {};
        if (j < H) {
            for (unsigned r = blockIdx.y * STRIP_ROWS + threadIdx.y; r < R; r += gridDim.y * STRIP_ROWS) {
                const pack<real, n> x = f(N, r, j);
                for (int k = 0; k < n; ++k) sum[k] += x[k];
            }
        }
        of_row[threadIdx.y][threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.y == 0 && j < H) {
            for (int y = 1; y < STRIP_ROWS; ++y)
                for (int k = 0; k < n; ++k) sum[k] += of_row[y][threadIdx.x][k];
            store(sums + (size_t)blockIdx.y * H + j, sum);
        }
        __syncthreads();
    }
}

// sums[y] ← Σ f(N, r, j), r the rows that the y-th of gridDim.y blocks walks: sums (gridDim.y, H).
template <class F>
__device__ void column_sums(real* sums, unsigned R, int H, bool wide, F f) {
    if (wide) {
        strips(lanes<WIDE>{}, sums, R, H, f);
    } else {
        strips(lanes<1>{}, sums, R, H, f);
    }
}
