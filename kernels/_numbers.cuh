// numbers: what a kernel takes beside arrays, and the mathematics of `_math.py` in this dtype.
//
// Every .cu is compiled with -Dreal=float or -Dreal=double, behind the text of the .cuh files (`_cuda.py` joins them).
// exp, log1p, expm1, tanh are CUDA's own, 1 to 2 ulp; no flag trades their digits for speed. Where a loop over all
// features would wait for arithmetic instead of memory, branches that its arguments never take are left out.

typedef unsigned long long counter;  // what integers are counted in; atomics on integers repeat, on floats they do not

// A number of the caller's, or one that stands in device memory, where a captured graph can change it between steps.
struct number {
    const double* at;
    double value;
    __device__ operator double() const { return at ? *at : value; }
};

// The weight of each row (`_rows.py`): one for all rows, or one each.
struct row_weight {
    const real* at;
    real value;
    __device__ real operator[](size_t r) const { return at ? at[r] : value; }
};

const real TINY = real(1.2e-38);  // what optimisers flush their moments at: `_math.py`

inline __device__ real flushed(real x) { return abs(x) < TINY ? real(0) : x; }

// a/b for 1 ≤ b ≤ 3, to 2 ulp: nothing overflows there.
inline __device__ float ratio(float a, float b) { return __fdividef(a, b); }
inline __device__ double ratio(double a, double b) { return a / b; }

// ln(1 + u) for 0 ≤ u ≤ 1: in float32 the series of `_math.py`, 2 artanh s with s = u/(2 + u).
inline __device__ double log1p_unit(double u) { return log1p(u); }
inline __device__ float log1p_unit(float u) {
    const float s = ratio(u, 2 + u), q = s * s;
    float p = 1 / 15.f;
    p = p * q + 1 / 13.f;
    p = p * q + 1 / 11.f;
    p = p * q + 1 / 9.f;
    p = p * q + 1 / 7.f;
    p = p * q + 1 / 5.f;
    p = p * q + 1 / 3.f;
    return 2 * (s + s * q * p);
}

// 1/(1 + e^{−x}), the same as e^{x}/(1 + e^{x}): whichever has no overflow.
inline __device__ real sigmoid(real x) {
    const real e = exp(-abs(x));
    return ratio(x >= 0 ? 1 : e, 1 + e);
}

// ln(1 + e^{x}) = max(x, 0) + ln(1 + e^{−|x|}). NaN stays NaN.
inline __device__ real softplus(real x) { return (x < 0 ? 0 : x) + log1p_unit(exp(-abs(x))); }
