// The optimizers' equations (`optimizers.py`), for all parameters in one launch.
//
// A model has a handful of parameters, most of them small: a launch for each would cost more than the arithmetic. So one
// kernel gets a table of them all, passed by value, which needs no upload and no waiting. A step is
//
//   check          are all gradients and the loss finite? If not, `broken` gets the step's number. Also Σ g², in parts
//   clip_factors   only with clipnorm or global_clipnorm: what each gradient is scaled by
//   sgd | sgd_momentum | rmsprop | adam    the update; does nothing if `broken` is not 0
//   move_average   only with use_ema, likewise: by itself, as an update that also did this would need more registers
//
// The host waits for none of them. A thread takes a few elements of one parameter, neighbouring threads
// neighbouring ones; a step of Adam moves 7 numbers for each one it computes, so memory is the
// limit, and the arithmetic is free.

#include "gpu.cuh"

#ifndef THREADS
#define THREADS 256      // of a block
#define EACH 4           // numbers that a thread updates
#define EACH_CHECKED 16  // numbers that a thread checks
#define MOST 48          // parameters in a table; arguments have room for 4 kB
#endif

struct Parameter {
    Pointer<REAL> w;
    Pointer<const REAL> g;        // like w; or only the rows `ids`, (K, columns), all others being zero
    Pointer<REAL> slots[2];       // the optimizer's arrays, if it has any
    Pointer<REAL> average;        // of w, with use_ema
    Pointer<const int> ids;       // (K,) distinct, in any order
    Pointer<int> place;           // (rows,) the row of g for each row of w, if ids agrees (leftovers of old steps do
                                  // not); none: g is like w
    unsigned size, gradient_size, columns, K;
    unsigned first_block;         // of the blocks that update it
    unsigned first_check;         // of the blocks that check its gradient
};

struct Parameters {
    unsigned count, checks;       // how many parameters, and blocks that check them
    Parameter at[MOST];
};

template <bool checks>
__device__ __forceinline__ unsigned first_block(const Parameters& parameters, unsigned p) {
    return checks ? parameters.at[p].first_check : parameters.at[p].first_block;
}

// The parameter that a block works on: the last one whose blocks begin at or before it.
template <bool checks>
__device__ __forceinline__ unsigned parameter_of_block(const Parameters& parameters) {
    unsigned p = parameters.count - 1;
    while (first_block<checks>(parameters, p) > blockIdx.x) p--;
    return p;
}

// The block's sum, in thread 0; always added in the same order.
__device__ __forceinline__ double block_sum(double value) {
    shared_array(double, sums, THREADS);
    sums[threadIdx.x] = value;
    for (unsigned half = THREADS / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return threadIdx.x == 0 ? sums[0] : 0.0;
}

// Blocks 0 to checks - 1 each look at a part of one gradient, the one after them at the loss.
// Squares are added in double: a float's square may be too large for a float, or too small relative to the sum.
extern "C" __global__ void __launch_bounds__(THREADS) check(
    const Parameters parameters,
    Global<const REAL> __restrict__ loss,      // (1,), or None
    int step,
    Global<int> broken,                        // (1,) the first step whose gradients or loss were not finite, or 0
    Global<double> __restrict__ square_norms)  // (checks,) Σ g² of each block's part
{
    if (blockIdx.x == parameters.checks) {
        if (threadIdx.x == 0 && loss && !isfinite(loss[0])) atomicCAS(broken, 0, step);
        return;
    }
    const Parameter& of = parameters.at[parameter_of_block<true>(parameters)];
    Global<const REAL> gradient = global_memory(of.g, of.gradient_size);
    Global<const int> ids = global_memory(of.ids, of.K);
    Global<int> place = global_memory(of.place, of.size / of.columns);
    const unsigned begin = (blockIdx.x - of.first_check) * (THREADS * EACH_CHECKED);
    double square_norm = 0;
    bool finite = true;
    #pragma unroll
    for (unsigned n = 0; n < EACH_CHECKED; n++) {
        const unsigned i = begin + n * THREADS + threadIdx.x;
        if (i >= of.gradient_size) break;
        const REAL g = gradient[i];
        finite = finite && isfinite(g);
        square_norm += double(g) * double(g);
        if (place && i % of.columns == 0) place[ids[i / of.columns]] = int(i / of.columns);
    }
    if (!finite) atomicCAS(broken, 0, step);
    square_norm = block_sum(square_norm);
    if (threadIdx.x == 0) square_norms[blockIdx.x] = square_norm;
}

// Block p: min(1, clip / ||g||), of parameter p's gradient or of all together.
extern "C" __global__ void __launch_bounds__(THREADS) clip_factors(
    const Parameters parameters,
    Global<const double> __restrict__ square_norms,  // the parts of these parameters, or of all
    int all,                                         // number of parts of all gradients together; 0: each by itself
    double clip,
    Global<double> __restrict__ factors)             // (count,)
{
    const unsigned p = blockIdx.x;
    const unsigned begin = all ? 0 : parameters.at[p].first_check;
    const unsigned end = all ? unsigned(all) : p + 1 < parameters.count ? parameters.at[p + 1].first_check : parameters.checks;
    double square_norm = 0;
    for (unsigned n = begin + threadIdx.x; n < end; n += THREADS) square_norm += square_norms[n];
    square_norm = block_sum(square_norm);
    if (threadIdx.x == 0) factors[p] = fmin(1.0, clip / fmax(sqrt(square_norm), 1e-30));
}

// Settings of a kernel besides the equations.
struct Clipping {
    Pointer<const double> factors;  // (P,) factor of each gradient; none: 1
    double value;                   // limit of a gradient's elements; 0: none
};

template <typename Rule>
__device__ __forceinline__ void update(
    const Parameters& parameters, Global<const int> broken, const Clipping& clipping, const Rule rule)
{
    if (broken[0]) return;
    const unsigned p = parameter_of_block<false>(parameters);
    const Parameter& of = parameters.at[p];
    Global<REAL> w = global_memory(of.w, of.size);
    Global<const REAL> gradient = global_memory(of.g, of.gradient_size);
    Global<REAL> first = global_memory(of.slots[0], of.size), second = global_memory(of.slots[1], of.size);
    Global<const int> ids = global_memory(of.ids, of.K);
    Global<int> place = global_memory(of.place, of.size / of.columns);
    Global<const double> factors = global_memory(clipping.factors, parameters.count);
    const REAL factor = factors ? REAL(factors[p]) : REAL(1);
    const REAL limit = REAL(clipping.value);
    const unsigned begin = (blockIdx.x - of.first_block) * (THREADS * EACH);
    #pragma unroll
    for (unsigned n = 0; n < EACH; n++) {
        const unsigned i = begin + n * THREADS + threadIdx.x;
        if (i >= of.size) break;
        REAL g = 0;
        if (place) {
            const unsigned row = i / of.columns;
            const unsigned k = unsigned(int(place[row]));
            if (k < of.K && unsigned(ids[k]) == row) g = gradient[k * of.columns + i % of.columns];
            else if (Rule::slots == 0) continue;  // nothing moves
        } else {
            g = gradient[i];
        }
        g *= factor;
        if (limit > 0) g = fmin(fmax(g, -limit), limit);
        REAL w_i = w[i];
        REAL first_i = Rule::slots > 0 ? first[i] : REAL(0);
        REAL second_i = Rule::slots > 1 ? second[i] : REAL(0);
        rule(w_i, g, first_i, second_i);
        w[i] = w_i;
        if (Rule::slots > 0) first[i] = first_i;
        if (Rule::slots > 1) second[i] = second_i;
    }
}

struct SGD {
    static constexpr int slots = 0;
    REAL learning_rate;
    __device__ void operator()(REAL& w, REAL g, REAL&, REAL&) const { w -= learning_rate * g; }
};

struct SGDMomentum {
    static constexpr int slots = 1;
    REAL learning_rate, mu;
    bool nesterov;
    __device__ void operator()(REAL& w, REAL g, REAL& m, REAL&) const {
        m = mu * m - learning_rate * g;
        w += nesterov ? mu * m - learning_rate * g : m;
    }
};

struct RMSprop {
    static constexpr int slots = 1;
    REAL learning_rate, rho, one_minus_rho, epsilon;
    __device__ void operator()(REAL& w, REAL g, REAL& v, REAL&) const {
        v = rho * v + one_minus_rho * g * g;
        w -= learning_rate * g / sqrt(v + epsilon);
    }
};

struct Adam {
    static constexpr int slots = 2;
    REAL alpha, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2, epsilon;
    __device__ void operator()(REAL& w, REAL g, REAL& m, REAL& v) const {
        m = beta_1 * m + one_minus_beta_1 * g;
        v = beta_2 * v + one_minus_beta_2 * g * g;
        w -= alpha * m / (sqrt(v) + epsilon);
    }
};

// Numbers come in double, and 1 - β is taken before it is rounded: 1 - 0.999f would be wrong by 5e-5.

extern "C" __global__ void __launch_bounds__(THREADS) sgd(
    const Parameters parameters, Global<const int> __restrict__ broken, const Clipping clipping, double learning_rate)
{
    update(parameters, broken, clipping, SGD{REAL(learning_rate)});
}

extern "C" __global__ void __launch_bounds__(THREADS) sgd_momentum(
    const Parameters parameters, Global<const int> __restrict__ broken, const Clipping clipping, double learning_rate,
    double mu, int nesterov)
{
    update(parameters, broken, clipping, SGDMomentum{REAL(learning_rate), REAL(mu), nesterov != 0});
}

extern "C" __global__ void __launch_bounds__(THREADS) rmsprop(
    const Parameters parameters, Global<const int> __restrict__ broken, const Clipping clipping, double learning_rate,
    double rho, double epsilon)
{
    update(parameters, broken, clipping, RMSprop{REAL(learning_rate), REAL(rho), REAL(1 - rho), REAL(epsilon)});
}

extern "C" __global__ void __launch_bounds__(THREADS) adam(
    const Parameters parameters, Global<const int> __restrict__ broken, const Clipping clipping, double alpha,
    double beta_1, double beta_2, double epsilon)
{
    update(parameters, broken, clipping,
           Adam{REAL(alpha), REAL(beta_1), REAL(1 - beta_1), REAL(beta_2), REAL(1 - beta_2), REAL(epsilon)});
}

// average += part (w - average), of which part is 1 in the first step; if it overwrites, then w = average.
extern "C" __global__ void __launch_bounds__(THREADS) move_average(
    const Parameters parameters, Global<const int> __restrict__ broken, double part, int overwrites)
{
    if (broken[0]) return;
    const Parameter& of = parameters.at[parameter_of_block<false>(parameters)];
    Global<REAL> w = global_memory(of.w, of.size), average = global_memory(of.average, of.size);
    const unsigned begin = (blockIdx.x - of.first_block) * (THREADS * EACH);
    #pragma unroll
    for (unsigned n = 0; n < EACH; n++) {
        const unsigned i = begin + n * THREADS + threadIdx.x;
        if (i >= of.size) break;
        const REAL moved = average[i] + REAL(part) * (w[i] - average[i]);
        average[i] = moved;
        if (overwrites) w[i] = moved;
    }
}
