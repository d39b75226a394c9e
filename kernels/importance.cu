// importance: the fused CUDA kernels of `importance.py`, which says what they compute.

// A warp for each row: its lanes share the dimensions of a sample, then the samples. Lane k mod 32 keeps sample k.
extern "C" __global__ void importance_forward(
    real* __restrict__ log_w,      // (S, B)     out
    real* __restrict__ weight,     // (S, B)     out
    real* __restrict__ bound,      // (B,)       out
    const real* __restrict__ nll,  // (S, B)
    const real* __restrict__ Z,    // (S, B, L)
    const real* __restrict__ eps,  // (S, B, L)
    const real* __restrict__ H,    // (B, 2L)    mean, then logvar
    number beta, int S, unsigned B, int L) {
    const real half_beta = real(0.5 * beta);
    for (unsigned i = first_row(); i < B; i += next_rows()) {
        const real* logvar = H + (size_t)i * 2 * L + L;
        real largest = 0;
        for (int k = 0; k < S; ++k) {
            const size_t ki = (size_t)k * B + i;
            real gap = 0;
            for (int l = threadIdx.x; l < L; l += 32) {
                const real e = eps[ki * L + l], z = Z[ki * L + l];
                gap += e * e - z * z + logvar[l];
            }
            const real its = half_beta * warp_sum(gap) - nll[ki];  // the same in every lane
            largest = k == 0 || its > largest ? its : largest;
            if (threadIdx.x == (unsigned)k % 32) log_w[ki] = its;
        }
        real total = 0;
        for (int k = threadIdx.x; k < S; k += 32) {
            const size_t ki = (size_t)k * B + i;
            weight[ki] = exp(log_w[ki] - largest);
            total += weight[ki];
        }
        total = warp_sum(total);
        if (threadIdx.x == 0) bound[i] = largest + log(total / S);
        for (int k = threadIdx.x; k < S; k += 32) weight[(size_t)k * B + i] /= total * B;
    }
}

extern "C" __global__ void importance_backward(
    real* __restrict__ dH,            // (B, 2L)    out
    const real* __restrict__ dZ,      // (S, B, L)
    const real* __restrict__ eps,     // (S, B, L)
    const real* __restrict__ sigma,   // (B, L)
    const real* __restrict__ Z,       // (S, B, L)
    const real* __restrict__ weight,  // (S, B)
    number beta, int S, unsigned B, int L) {
    const real its_beta = real(beta);
    for (unsigned i = first_row(); i < B; i += next_rows()) {
        for (int l = threadIdx.x; l < L; l += blockDim.x) {
            const real s = sigma[(size_t)i * L + l];
            real d_mean = 0, d_logvar = 0;
            for (int k = 0; k < S; ++k) {
                const size_t ki = (size_t)k * B + i, kil = ki * L + l;
                const real count = its_beta * weight[ki], d = dZ[kil] + count * Z[kil];
                d_mean += d;
                d_logvar += real(0.5) * (s * eps[kil] * d - count);
            }
            dH[(size_t)i * 2 * L + l] = d_mean;
            dH[(size_t)i * 2 * L + L + l] = d_logvar;
        }
    }
}
