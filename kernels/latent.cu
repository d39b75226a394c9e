// latent: the fused CUDA kernels of `latent.py`, which says what they compute.

inline __device__ real kl(real mean, real logvar, real sigma) {
    return real(0.5) * (mean * mean + sigma * sigma - logvar - 1);
}

// The first `dim_blocks` blocks take the means over rows, the others the rows: (32, y) threads, a warp for each row.
extern "C" __global__ void latent_forward(
    real* __restrict__ Z,          // (S, B, L)  out
    real* __restrict__ sigma,      // (B, L)     out
    real* __restrict__ kl_rows,    // (B,)       out
    real* __restrict__ kl_dims,    // (L,)       out
    const real* __restrict__ H,    // (B, 2L)    mean, then logvar
    const real* __restrict__ eps,  // (S, B, L)
    int S, unsigned B, int L, unsigned dim_blocks) {
    if (blockIdx.x < dim_blocks) {
        for (int l = blockIdx.x; l < L; l += dim_blocks) {
            real sum = 0;
            for (unsigned i = threadIdx.y * 32 + threadIdx.x; i < B; i += 32 * blockDim.y) {
                const real mean = H[(size_t)i * 2 * L + l], logvar = H[(size_t)i * 2 * L + L + l];
                sum += kl(mean, logvar, exp(real(0.5) * logvar));
            }
            sum = block_sum(sum);
            if (threadIdx.x == 0 && threadIdx.y == 0) kl_dims[l] = sum / B;
        }
        return;
    }
    const unsigned first = (blockIdx.x - dim_blocks) * blockDim.y + threadIdx.y;
    for (unsigned i = first; i < B; i += (gridDim.x - dim_blocks) * blockDim.y) {
        real total = 0;
        for (int l = threadIdx.x; l < L; l += 32) {
            const size_t il = (size_t)i * L + l;
            const real mean = H[(size_t)i * 2 * L + l], logvar = H[(size_t)i * 2 * L + L + l];
            const real s = exp(real(0.5) * logvar);
            sigma[il] = s;
            total += kl(mean, logvar, s);
            for (int k = 0; k < S; ++k) Z[k * (size_t)B * L + il] = mean + s * eps[k * (size_t)B * L + il];
        }
        total = warp_sum(total);
        if (threadIdx.x == 0) kl_rows[i] = total;
    }
}

extern "C" __global__ void latent_backward(
    real* __restrict__ dH,               // (B, 2L)    out
    const real* __restrict__ dZ,         // (S, B, L)
    const real* __restrict__ eps,        // (S, B, L)
    const real* __restrict__ sigma,      // (B, L)
    const real* __restrict__ H,          // (B, 2L)
    const real* __restrict__ kl_weight,  // (L,)
    int S, unsigned B, int L) {
    for (unsigned i = first_row(); i < B; i += next_rows()) {
        for (int l = threadIdx.x; l < L; l += blockDim.x) {
            const size_t il = (size_t)i * L + l, mean = (size_t)i * 2 * L + l, logvar = mean + L;
            const real s = sigma[il], weight = kl_weight[l];
            real d_mean = weight * H[mean], d_logvar = weight * real(0.5) * (s * s - 1);
            for (int k = 0; k < S; ++k) {
                const real d = dZ[k * (size_t)B * L + il];
                d_mean += d;
                d_logvar += real(0.5) * s * eps[k * (size_t)B * L + il] * d;
            }
            dH[mean] = d_mean;
            dH[logvar] = d_logvar;
        }
    }
}
