// numbers: what a kernel takes beside arrays, and the mathematics of `_math.py` in this dtype.
//
// Every .cu is compiled with -Dreal=float or -Dreal=double, behind the text of the .cuh files (`_cuda.py` joins them).
// exp, log1p, expm1, tanh are CUDA's own, 1 to 2 ulp; no flag trades their digits for speed.

typedef unsigned long long counter;  // what integers are counted in; atomics on integers repeat, on floats they do not

// A number of the caller's, or one that stands in device memory, where a captured graph can change it between steps.
struct number {
    const double* at;
    double value;
    __device__ operator double() const { return at ? *at : value; }
};

// The weight of each row (`_rows.py`): one for all rows (at is null, or step 0), or one each (step 1).
struct row_weight {
    const real* at;
    long long step;
    real value;
    __device__ real operator[](size_t r) const { return at ? at[r * step] : value; }
};

const real TINY = real(1.2e-38);  // what optimisers flush their moments at: `_math.py`

inline __device__ real flushed(real x) { return abs(x) < TINY ? real(0) : x; }

// 1/(1 + e^{−x}), the same as e^{x}/(1 + e^{x}): whichever has no overflow.
inline __device__ real sigmoid(real x) {
    const real e = exp(-abs(x));
    return (x >= 0 ? 1 : e) / (1 + e);
}

// ln(1 + e^{x}) = max(x, 0) + ln(1 + e^{−|x|}). NaN stays NaN.
inline __device__ real softplus(real x) { return (x < 0 ? 0 : x) + log1p(exp(-abs(x))); }
