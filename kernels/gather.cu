// gather: the fused CUDA kernels of `gather.py`, one for each dtype that data come in. No index is checked.

template <class Out, class In>
__device__ void rows_of(Out* out, const In* X, const long long* rows, unsigned B, int D) {
    const bool wide = D % 4 == 0 && aligned<4>(out) && aligned<4>(X);
    for (unsigned r = first_row(); r < B; r += next_rows()) {
        const In* from = X + (size_t)rows[r] * D;
        Out* to = out + (size_t)r * D;
        if (wide) {
            for (int j = 4 * threadIdx.x; j < D; j += 4 * blockDim.x) {
                const auto x = load(lanes<4>{}, from + j);
                pack<Out, 4> y;
                for (int k = 0; k < 4; ++k) y[k] = Out(x[k]);
                store(to + j, y);
            }
        } else {
            for (int j = threadIdx.x; j < D; j += blockDim.x) to[j] = Out(from[j]);
        }
    }
}

// out (B, D), X (N, D), rows (B,): out ← X[rows], converted.
extern "C" __global__ void gather_uint8(real* out, const unsigned char* X, const long long* rows, unsigned B, int D) {
    rows_of(out, X, rows, B, D);
}
extern "C" __global__ void gather_float32(real* out, const float* X, const long long* rows, unsigned B, int D) {
    rows_of(out, X, rows, B, D);
}
extern "C" __global__ void gather_float64(real* out, const double* X, const long long* rows, unsigned B, int D) {
    rows_of(out, X, rows, B, D);
}
// Row numbers of rows: integers to integers.
extern "C" __global__ void gather_int64(long long* out, const long long* X, const long long* rows, unsigned B, int D) {
    rows_of(out, X, rows, B, D);
}
