// The few words in which the kernels of this folder are written, and what they mean on a GPU: plain pointers.
//
// The tests compile the same kernels for the CPU (-DEMULATED_GPU), where the same words check every index, barrier and
// race; so a kernel names its memory by them and by nothing else. No header of CUDA is needed: NVRTC has none.

#ifndef REAL
#define REAL float
#endif

#ifdef EMULATED_GPU
#include "emulated_gpu.h"
#else

template <typename T> using Global = T*;   // an argument: memory of the whole device
template <typename T> using Shared = T*;   // memory of one block
template <typename T> using Pointer = T*;  // in a struct that the host fills; `global_memory` makes a Global of it

template <typename T>
__device__ __forceinline__ Global<T> global_memory(Pointer<T> pointer, long long /*count*/) {
    return pointer;
}

// `count` elements of the launch's dynamic shared memory, from number `start` on; both count elements of T.
template <typename T>
__device__ __forceinline__ Shared<T> shared_memory(int start, int /*count*/) {
    extern __shared__ __align__(16) char dynamic_shared_memory[];
    return reinterpret_cast<T*>(dynamic_shared_memory) + start;
}

#define shared_array(T, name, count) __shared__ T name[count]

// Four neighbours in one load or store of 16 bytes (double: two); p is a multiple of 16 bytes.
template <typename T> struct __align__(16) Four { T x, y, z, w; };

template <typename T>
__device__ __forceinline__ Four<T> load_four(const T* p) {
    return *reinterpret_cast<const Four<T>*>(p);
}

template <typename T>
__device__ __forceinline__ void store_four(T* p, Four<T> value) {
    *reinterpret_cast<Four<T>*>(p) = value;
}

#endif
