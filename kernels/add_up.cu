// add_up: the CUDA kernel of `add_up.py`, which says what it computes.

enum { LEVELS = 12 };  // of the tree; as in `add_up.py`

extern "C" __global__ void add_up(
    real* __restrict__ out,          // (n,)
    const real* __restrict__ terms,  // (P, n)
    int P, int halvings, long long n) {
    each(n, n % WIDE == 0 && aligned<WIDE>(out, terms), [&](auto N, long long i) {
        using values = decltype(load(N, terms));
        values held[LEVELS] = {}, total = {};  // held[l]: the sum of 2ˡ terms that waits for its neighbour's
        for (int p = 0; p < P; ++p) {
            values sum = load(N, terms + p * n + i);
            bool waits = false;
#pragma unroll
            for (int level = 0; level < LEVELS; ++level) {
                if (level >= halvings || waits) continue;
                if (p >> level & 1) {
                    for (int k = 0; k < N; ++k) sum[k] = held[level][k] + sum[k];
                } else {
                    held[level] = sum;
                    waits = true;
                }
            }
            if (waits) continue;
            if (p >> halvings) {
                for (int k = 0; k < N; ++k) sum[k] = total[k] + sum[k];
            }
            total = sum;
        }
        store(out + i, total);
    });
}
