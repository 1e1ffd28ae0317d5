// σ, and the loss on its logits: one launch each, while a CuPy expression takes a launch for every operation in it.

#include "gpu.cuh"

// 1 / (1 + exp(-x)), written so that exp never sees a positive number: see `gates.sigmoid`.
__device__ __forceinline__ REAL sigma(REAL x) {
    const REAL e = exp(-fabs(x));
    return (x >= REAL(0) ? REAL(1) : e) / (REAL(1) + e);
}

extern "C" __global__ void sigmoid(Global<const REAL> __restrict__ x, Global<REAL> __restrict__ y, long long size) {
    const long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n < size) y[n] = sigma(x[n]);
}

// The losses -y log σ(x) - (1 - y) log(1 - σ(x)) of logits x and targets y, and their derivatives with respect to x.
extern "C" __global__ void binary_crossentropy(
    Global<const REAL> __restrict__ logits,
    Global<const REAL> __restrict__ targets,
    Global<REAL> __restrict__ losses,
    Global<REAL> __restrict__ gradient,
    long long size)
{
    const long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= size) return;
    const REAL x = logits[n], y = targets[n];
    losses[n] = fmax(x, REAL(0)) - x * y + log1p(exp(-fabs(x)));
    gradient[n] = sigma(x) - y;
}
