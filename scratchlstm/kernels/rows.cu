// Sums of rows: what `Groups.sum` computes, in a fixed order, so that the same numbers come out at every run.
//
// Every occurrence of an id is a row of `values`; `order` lists the rows id by id. A frequent id ("the", or padding) has
// a run hundreds of times longer than the others': one block would still add when all others are done. So long runs are
// cut into chunks, one block sums each chunk, and a second launch of the same kernel adds the chunks' sums, now few.
//
//   block c                  one chunk
//   thread d, d + blockDim   one column each: neighbours read neighbouring numbers, a row is read in one sweep

#include "gpu.cuh"

extern "C" __global__ void sum_rows(
    Global<const REAL> __restrict__ values,  // (N, D)
    Global<const int> __restrict__ order,    // which row of values is the n-th; None: the n-th
    Global<const int> __restrict__ starts,   // (C,) where chunk c begins in order
    Global<const int> __restrict__ counts,   // (C,) how many rows it has
    int parts,                               // the first chunks are parts of long runs; each other one is a whole run
    int long_runs,                           // how many runs these are the parts of
    Global<REAL> __restrict__ part_sums,     // (parts, D)
    Global<REAL> __restrict__ sums,          // (K, D), the long runs first
    int D)
{
    const int c = blockIdx.x;
    const long long width = D;  // a row's place in memory may be beyond 2^31 numbers
    const int start = starts[c], stop = start + counts[c];
    Global<REAL> sum = c < parts ? part_sums + c * width : sums + (c - parts + long_runs) * width;
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        REAL total = 0;
        // no row waits for the sum of those before: eight are on their way together
        #pragma unroll 8
        for (int n = start; n < stop; n++) total += values[(order ? order[n] : n) * width + d];
        sum[d] = total;
    }
}
