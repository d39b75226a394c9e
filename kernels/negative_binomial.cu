// negative_binomial: the fused CUDA kernels of `negative_binomial.py`, which says what they compute; in float64 whatever
// the dtype. Three launches: what depends on the feature alone; the rows; the features' sums over the rows.

const double LOGRATE_MAX = 20, LOGTHETA_MIN = -10, LOGTHETA_MAX = 10;

struct gamma_pair {
    double lgamma, digamma;
};

// (ln Γ(y), ψ(y)) for y ≥ 8: `_special.py`'s.
inline __device__ gamma_pair stirling(double y) {
    const double log_y = log(y), r = 1 / y, q = r * r;
    double p = -3617. / 122400;
    p = p * q + 1. / 156;
    p = p * q - 691. / 360360;
    p = p * q + 1. / 1188;
    p = p * q - 1. / 1680;
    p = p * q + 1. / 1260;
    p = p * q - 1. / 360;
    p = p * q + 1. / 12;
    double d = 3617. / 8160;
    d = d * q - 1. / 12;
    d = d * q + 691. / 32760;
    d = d * q - 1. / 132;
    d = d * q + 1. / 240;
    d = d * q - 1. / 252;
    d = d * q + 1. / 120;
    d = d * q - 1. / 12;
    return {(y - 0.5) * log_y - y + 0.91893853320467274178 + p * r, log_y - 0.5 * r + d * q};
}

// (ln Γ(x+θ)/Γ(θ), its derivative by θ) for a whole x ≥ 0; at_8 is stirling(θ + 8).
inline __device__ gamma_pair log_rising(double x, double theta, gamma_pair at_8) {
    double product = 1, slope = 0;
    for (int i = 0; i < 8 && i < x; ++i) {
        product *= theta + i;
        slope += 1 / (theta + i);
    }
    const gamma_pair end = x > 8 ? stirling(x + theta) : at_8;
    return {log(product) + (end.lgamma - at_8.lgamma), slope + (end.digamma - at_8.digamma)};
}

// What both kernels over rows need of an entry: −ln p, and its slopes by the log-mean and by ln θ.
struct entry {
    double nll, d_logmean, d_logtheta;
    bool inside;
};

inline __device__ entry explain(double s, double x, const double* of_feature, int D) {
    const double t = of_feature[0], theta = of_feature[D], c = s > LOGRATE_MAX ? LOGRATE_MAX : s;  // NaN stays NaN
    const double v = c - t, e = exp(-abs(v)), softplus = (v < 0 ? 0 : v) + log1p(e);
    const double slope = (exp(c) - x) * ((v >= 0 ? e : 1) / (1 + e));
    const gamma_pair rising = log_rising(x, theta, {of_feature[2 * D], of_feature[3 * D]});
    const bool inside = c == s;
    return {
        lgamma(x + 1) - rising.lgamma + (x + theta) * softplus - x * v, inside ? slope : 0,
        theta * (softplus - rising.digamma) - slope, inside};
}

extern "C" __global__ void negative_binomial_features(
    double* __restrict__ table,         // (4, D)  out: t, θ, ln Γ(θ+8), ψ(θ+8)
    counter* __restrict__ clamped,      // (1,)    in and out
    const real* __restrict__ logtheta,  // (D,)
    int D) {
    int outside = 0;
    for (int j = thread(); j < D; j += threads()) {
        double t = logtheta[j] < LOGTHETA_MIN ? LOGTHETA_MIN : logtheta[j];  // NaN stays NaN
        t = t > LOGTHETA_MAX ? LOGTHETA_MAX : t;
        outside += t != logtheta[j];
        const double theta = exp(t);
        const gamma_pair at_8 = stirling(theta + 8);
        table[j] = t;
        table[D + j] = theta;
        table[2 * D + j] = at_8.lgamma;
        table[3 * D + j] = at_8.digamma;
    }
    outside = warp_sum(outside);
    if (clamped && threadIdx.x % 32 == 0 && outside) atomicAdd(clamped, (counter)outside);
}

extern "C" __global__ void negative_binomial(
    real* __restrict__ nll_rows,       // (R,)    out
    real* __restrict__ d_logmean,      // (R, D)  out
    counter* __restrict__ clamped,     // (1,)    in and out
    const double* __restrict__ table,  // (4, D)
    const real* __restrict__ logmean,  // (R, D)
    const real* __restrict__ X,        // (B, D)  counts
    row_weight weight, unsigned R, unsigned B, int D) {
    int outside = 0;
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * D, its = (size_t)(r % B) * D;
        const double w = weight[r];
        double nll = 0;
        for (int j = threadIdx.x; j < D; j += blockDim.x) {
            const entry here = explain(logmean[mine + j], X[its + j], table + j, D);
            nll += here.nll;
            if (d_logmean) d_logmean[mine + j] = real(w * here.d_logmean);
            outside += !here.inside;
        }
        nll = row_sum(nll);
        if (threadIdx.x == 0) nll_rows[r] = real(nll);
    }
    outside = warp_sum(outside);
    if (clamped && threadIdx.x % 32 == 0 && outside) atomicAdd(clamped, (counter)outside);
}

// Blocks of (32, STRIP_ROWS) threads: a thread for each feature, and each its share of the rows.
extern "C" __global__ void negative_binomial_logtheta(
    real* __restrict__ d_logtheta,      // (D,)  out
    const double* __restrict__ table,   // (4, D)
    const real* __restrict__ logmean,   // (R, D)
    const real* __restrict__ logtheta,  // (D,)
    const real* __restrict__ X,         // (B, D)
    row_weight weight, unsigned R, unsigned B, int D) {
    __shared__ double of_rows[STRIP_ROWS][32];
    for (int strip = blockIdx.x; strip * 32 < D; strip += gridDim.x) {
        const int j = strip * 32 + threadIdx.x;
        double slope = 0;
        for (unsigned r = threadIdx.y; j < D && r < R; r += STRIP_ROWS) {
            const size_t mine = (size_t)r * D + j, its = (size_t)(r % B) * D + j;
            slope += weight[r] * explain(logmean[mine], X[its], table + j, D).d_logtheta;
        }
        of_rows[threadIdx.y][threadIdx.x] = slope;
        __syncthreads();
        if (threadIdx.y == 0 && j < D) {
            for (int y = 1; y < STRIP_ROWS; ++y) slope += of_rows[y][threadIdx.x];
            d_logtheta[j] = table[j] == logtheta[j] ? real(slope) : real(0);
        }
        __syncthreads();
    }
}
