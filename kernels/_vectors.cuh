// vectors: several neighbours at once. A thread moves 16 bytes by one load or store where every array is aligned to
// them, and single elements elsewhere; the same lambda is written once, for N neighbours, and compiled for both.

enum { WIDE = 16 / (int)sizeof(real) };  // elements in 16 bytes

template <int n>
struct lanes {  // how many neighbours, as a constant that a lambda can take: for (int k = 0; k < N; ++k)
    __device__ constexpr operator int() const { return n; }
};

template <class T, int n>
struct alignas(n * sizeof(T) < 16 ? n * sizeof(T) : 16) pack {
    T at[n];
    __device__ T& operator[](int k) { return at[k]; }
    __device__ const T& operator[](int k) const { return at[k]; }
};

template <int n, class T>
__device__ pack<T, n> load(lanes<n>, const T* from) {
    return *reinterpret_cast<const pack<T, n>*>(from);
}

template <class T, int n>
__device__ void store(T* to, const pack<T, n>& values) {
    *reinterpret_cast<pack<T, n>*>(to) = values;
}

// Whether n neighbours of each of these arrays can be loaded at once, from any place that is a multiple of n.
template <int n, class... T>
__device__ bool aligned(const T*... arrays) {
    return (... && (reinterpret_cast<size_t>(arrays) % alignof(pack<T, n>) == 0));
}

// ---- loops over flat arrays: as many threads as the launch has, however long the array ---------------------------

inline __device__ long long thread() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
inline __device__ long long threads() { return (long long)gridDim.x * blockDim.x; }

// f(N, i) for every group of N elements from i on: whole vectors first if `wide`, then what is left, one by one.
template <class F>
__device__ void each(long long n, bool wide, F f) {
    const long long whole = wide ? n / WIDE * WIDE : 0;
    for (long long i = thread() * WIDE; i < whole; i += threads() * WIDE) f(lanes<WIDE>{}, i);
    for (long long i = whole + thread(); i < n; i += threads()) f(lanes<1>{}, i);
}

// ---- loops over rows: blockDim.y rows at a time in a block, blockDim.x threads along each ------------------------

inline __device__ unsigned first_row() { return blockIdx.x * blockDim.y + threadIdx.y; }
inline __device__ unsigned next_rows() { return gridDim.x * blockDim.y; }

// f(N, j) for every group of N columns of a row. `wide`: the rows are aligned, and D is a multiple of WIDE.
template <class F>
__device__ void along(int D, bool wide, F f) {
    if (wide) {
        for (int j = threadIdx.x * WIDE; j < D; j += blockDim.x * WIDE) f(lanes<WIDE>{}, j);
    } else {
        for (int j = threadIdx.x; j < D; j += blockDim.x) f(lanes<1>{}, j);
    }
}
