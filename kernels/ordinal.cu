// ordinal: the fused CUDA kernels of `ordinal.py`, which says what they compute; in float64 whatever the dtype. Four
// launches: what depends on the feature alone; the rows; their sums for each class and feature; the slopes by t.

const double LOGSTEP_MIN = -10, LOGSTEP_MAX = 10;

inline __device__ double softplus_64(double v) { return (v > 0 ? v : 0) + log1p(exp(-abs(v))); }
inline __device__ double sigmoid_64(double v) {
    const double e = exp(-abs(v));
    return (v >= 0 ? 1 : e) / (1 + e);
}

// The class of an entry, or −1 for what is none.
inline __device__ int class_of(double value, int K) { return value >= 0 && value < K ? (int)value : -1; }

extern "C" __global__ void ordinal_features(
    double* __restrict__ table,      // (4K, D)     out: c, ln(1 − e^{−Δ}), zeros
    counter* __restrict__ clamped,   // (1,)        in and out
    const real* __restrict__ steps,  // (K − 1, D)
    int K, int D) {
    int outside = 0;
    for (int j = thread(); j < D; j += threads()) {
        double c = steps[j];
        for (int k = 0; k < K; ++k) {
            double inner = 0;
            if (k > 0 && k < K - 1) {
                const double given = steps[(size_t)k * D + j];
                double t = given < LOGSTEP_MIN ? LOGSTEP_MIN : given;  // NaN stays NaN
                t = t > LOGSTEP_MAX ? LOGSTEP_MAX : t;
                outside += t != given;
                const double step = exp(t);
                c += step;
                inner = log(-expm1(-step));
            }
            table[(size_t)k * D + j] = c;
            table[(size_t)(K + k) * D + j] = inner;
        }
    }
    outside = warp_sum(outside);
    if (clamped && threadIdx.x % 32 == 0 && outside) atomicAdd(clamped, (counter)outside);
}

extern "C" __global__ void ordinal(
    real* __restrict__ nll_rows,       // (R,)    out
    real* __restrict__ d_eta,          // (R, D)  out
    const double* __restrict__ table,  // (4K, D)
    const real* __restrict__ eta,      // (R, D)
    const real* __restrict__ X,        // (B, D)  classes
    row_weight weight, unsigned R, unsigned B, int D, int K) {
    for (unsigned r = first_row(); r < R; r += next_rows()) {
        const size_t mine = (size_t)r * D, its = (size_t)(r % B) * D;
        const double w = weight[r];
        double nll = 0;
        for (int j = threadIdx.x; j < D; j += blockDim.x) {
            const int x = class_of(X[its + j], K);
            const double e = eta[mine + j];
            double slope = 0;
            if (x < 0) nll = nan("");
            if (x >= 0 && x < K - 1) {
                const double a = table[(size_t)x * D + j] - e;
                nll += softplus_64(-a);
                slope += sigmoid_64(-a);
            }
            if (x > 0) {
                const double b = table[(size_t)(x - 1) * D + j] - e;
                nll += softplus_64(b);
                slope -= sigmoid_64(b);
            }
            if (x >= 0) nll -= table[(size_t)(K + x) * D + j];
            if (d_eta) d_eta[mine + j] = real(w * slope);
        }
        nll = row_sum(nll);
        if (threadIdx.x == 0) nll_rows[r] = real(nll);
    }
}

// Blocks of (32, STRIP_ROWS) threads: a thread for each class and feature, and each its share of the rows.
extern "C" __global__ void ordinal_sums(
    double* __restrict__ table,    // (4K, D)  dc and the weight of each class: out
    const real* __restrict__ eta,  // (R, D)
    const real* __restrict__ X,    // (B, D)
    row_weight weight, unsigned R, unsigned B, int D, int K) {
    __shared__ double slopes[STRIP_ROWS][32], weights[STRIP_ROWS][32];
    for (int strip = blockIdx.x; strip * 32 < K * D; strip += gridDim.x) {
        const int place = strip * 32 + threadIdx.x, k = place / D, j = place % D;
        double slope = 0, held = 0;
        for (unsigned r = threadIdx.y; place < K * D && r < R; r += STRIP_ROWS) {
            const int x = class_of(X[(size_t)(r % B) * D + j], K);
            const double a = table[(size_t)k * D + j] - eta[(size_t)r * D + j], w = weight[r];
            if (x == k) held += w;
            if (k < K - 1 && x == k) slope -= w * sigmoid_64(-a);
            if (k < K - 1 && x == k + 1) slope += w * sigmoid_64(a);
        }
        slopes[threadIdx.y][threadIdx.x] = slope;
        weights[threadIdx.y][threadIdx.x] = held;
        __syncthreads();
        if (threadIdx.y == 0 && place < K * D) {
            for (int y = 1; y < STRIP_ROWS; ++y) {
                slope += slopes[y][threadIdx.x];
                held += weights[y][threadIdx.x];
            }
            table[(size_t)(2 * K) * D + place] = slope;
            table[(size_t)(3 * K) * D + place] = held;
        }
        __syncthreads();
    }
}

extern "C" __global__ void ordinal_steps(
    real* __restrict__ d_steps,        // (K − 1, D)  out
    const double* __restrict__ table,  // (4K, D)
    const real* __restrict__ steps,    // (K − 1, D)
    int K, int D) {
    for (int j = thread(); j < D; j += threads()) {
        double total = 0;
        for (int k = K - 2; k > 0; --k) {
            total += table[(size_t)(2 * K + k) * D + j];
            const double t = steps[(size_t)k * D + j], step = exp(t), rate = exp(-step) / -expm1(-step);
            const double slope = step * (total - rate * table[(size_t)(3 * K + k) * D + j]);
            d_steps[(size_t)k * D + j] = t >= LOGSTEP_MIN && t <= LOGSTEP_MAX ? real(slope) : real(0);
        }
        d_steps[j] = real(total + table[(size_t)(2 * K) * D + j]);
    }
}
