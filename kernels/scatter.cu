// scatter: the fused CUDA kernel of `scatter.py`. No index is checked. A warp has a row.

// out (B, D) holds zeros; values, columns (n,), starts (N + 1,), rows (B,): out_r,columns_k = values_k.
extern "C" __global__ void scatter(real* out, const real* values, const int* columns, const long long* starts,
                                   const long long* rows, unsigned B, int D) {
    for (unsigned r = first_row(); r < B; r += next_rows()) {
        real* to = out + (size_t)r * D;
        const long long last = starts[rows[r] + 1];
        for (long long k = starts[rows[r]] + threadIdx.x; k < last; k += blockDim.x) to[columns[k]] = values[k];
    }
}
