// noise: the fused CUDA kernels of `noise.py`, which says what they compute. A thread draws one block of the counter:
// four words, for four neighbouring dims.

const unsigned M0 = 0xD2511F53, M1 = 0xCD9E8D57;  // the multipliers
const unsigned W0 = 0x9E3779B9, W1 = 0xBB67AE85;  // what the key grows by each round

typedef pack<unsigned, 4> words;

inline __device__ words philox(words c, unsigned k0, unsigned k1) {
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = __umulhi(c[0], M0), low0 = c[0] * M0, high1 = __umulhi(c[2], M1), low1 = c[2] * M1;
        c = {{high1 ^ c[1] ^ k0, low1, high0 ^ c[3] ^ k1, low0}};
        k0 += W0;
        k1 += W1;
    }
    return c;
}

// A word's 24-bit uniform in [0, 1).
template <class T>
__device__ T uniform_of(unsigned word) {
    return T(word >> 8) * T(1.0 / (1 << 24));
}

// out (S, B, D): use(place, w) for each block of four dims; place is where its first stands.
template <class Use>
__device__ void each_block(
    unsigned S, unsigned B, unsigned D, const long long* rows, unsigned stream, unsigned sample, number pass, counter seed,
    Use use) {
    const unsigned blocks = (D + 3) / 4, all = S * B * blocks, pass_ = (unsigned)(double)pass;
    for (unsigned i = thread(); i < all; i += threads()) {
        const unsigned block = i % blocks, sb = i / blocks, s = sb / B, b = sb % B;
        const words counter = {{(stream << 24) + block, sample + s, (unsigned)rows[b], pass_}};
        use((size_t)sb * D + 4 * block, philox(counter, (unsigned)seed, (unsigned)(seed >> 32)), D - 4 * block);
    }
}

// out[place …] ← four values: at once where they are aligned, else those of the `left` that the row still has.
template <class T>
__device__ void write(T* out, size_t place, pack<T, 4> values, bool wide, unsigned left) {
    if (wide) {
        store(out + place, values);
    } else {
        for (unsigned k = 0; k < 4; ++k)
            if (k < left) out[place + k] = values[k];
    }
}

extern "C" __global__ void bits(
    unsigned* __restrict__ out,          // (S, B, D)  out
    const long long* __restrict__ rows,  // (B,)
    unsigned stream, unsigned sample, number pass, counter seed, unsigned S, unsigned B, unsigned D) {
    const bool wide = D % 4 == 0 && aligned<4>(out);
    each_block(S, B, D, rows, stream, sample, pass, seed, [&](size_t place, words w, unsigned left) {
        write(out, place, w, wide, left);
    });
}

extern "C" __global__ void uniform(
    real* __restrict__ out,              // (S, B, D)  out
    const long long* __restrict__ rows,  // (B,)
    unsigned stream, unsigned sample, number pass, counter seed, unsigned S, unsigned B, unsigned D) {
    const bool wide = D % 4 == 0 && aligned<4>(out);
    each_block(S, B, D, rows, stream, sample, pass, seed, [&](size_t place, words w, unsigned left) {
        pack<real, 4> u;
        for (int k = 0; k < 4; ++k) u[k] = uniform_of<real>(w[k]);
        write(out, place, u, wide, left);
    });
}

extern "C" __global__ void normal(
    real* __restrict__ out,              // (S, B, D)  out
    const long long* __restrict__ rows,  // (B,)
    unsigned stream, unsigned sample, number pass, counter seed, unsigned S, unsigned B, unsigned D) {
    const bool wide = D % 4 == 0 && aligned<4>(out);
    each_block(S, B, D, rows, stream, sample, pass, seed, [&](size_t place, words w, unsigned left) {
        pack<real, 4> z;
        for (int k = 0; k < 4; k += 2) {
            const double radius = sqrt(-2 * log(uniform_of<double>(w[k]) + 0.5 / (1 << 24)));
            double sine, cosine;
            sincospi(2 * uniform_of<double>(w[k + 1]), &sine, &cosine);  // of 2πu: π never rounds what u says
            z[k] = radius * cosine;
            z[k + 1] = radius * sine;
        }
        write(out, place, z, wide, left);
    });
}

extern "C" __global__ void binarize(
    real* __restrict__ X,                // (B, D)  in: means; out: 0 or 1
    const long long* __restrict__ rows,  // (B,)
    unsigned stream, unsigned sample, number pass, counter seed, unsigned B, unsigned D) {
    const bool wide = D % 4 == 0 && aligned<4>(X);
    each_block(1, B, D, rows, stream, sample, pass, seed, [&](size_t place, words w, unsigned left) {
        pack<real, 4> x;
        if (wide) {
            x = load(lanes<4>{}, X + place);
        } else {
            for (unsigned k = 0; k < 4; ++k) x[k] = k < left ? X[place + k] : real(0);
        }
        for (int k = 0; k < 4; ++k) x[k] = uniform_of<real>(w[k]) < x[k];
        write(X, place, x, wide, left);
    });
}
