// The LSTM's recurrence on a GPU: `gates.lstm_forward` and `gates.lstm_backward`, the steps of a whole sequence in one
// launch each. Names and equation numbers are those of gates.py; docs/gpu.md walks through this file, with a picture.
//
// Everything outside the recurrence, x W before it and the products (17) and (19) to (21) after it, is computed for all
// steps at once by matrix products: see cupy_lstm.py.
//
// The recurrence is implemented three times, each version faster than the previous one, all with the same result:
//
//   -DVERSION=1   a thread owns a column of z; U is read from global memory again at every step
//   -DVERSION=2   the thread keeps its column of U in registers
//   -DVERSION=3   four threads own a unit: a quarter of the memory traffic for h, and one barrier per step
//
// Batch rows are independent, so a block takes one row (version 3: ROWS) through all steps, and no block ever
// waits for another.
//
// Sizes, by -D: UNITS is H; ROWS and HELD (how much of U is kept in registers, `Weights`) are of version 3 only. In a
// comment, k and `unit` count units (0 to H-1), `column` the columns of z (0 to 4H-1), and n = t B + b is the place of
// row b at time t: everything kept for the backward pass is stored step by step, (T, B, ...).

#include "gpu.cuh"

#ifndef UNITS
#define UNITS 60
#endif
#ifndef VERSION
#define VERSION 3
#endif
#ifndef ROWS
#define ROWS 1
#endif

#if VERSION > 0
constexpr int COLUMNS = 4 * UNITS;
#endif

// --- the cell: gates.py, number by number ----------------------------------------------------------------------------

__device__ __forceinline__ REAL sigma_prime(REAL s) { return s * (1 - s); }
__device__ __forceinline__ REAL phi_prime(REAL t) { return 1 - t * t; }

// (1) to (4), the gate number 0 to 3 of i f g o. With σ(z) = (1 + tanh(z/2)) / 2 all four are computed alike, so that
// the threads of a warp, which work on different gates, do not diverge.
__device__ __forceinline__ REAL activate(REAL z, int gate) {
    const REAL half = gate == 2 ? REAL(1) : REAL(0.5);
    return half * tanh(half * z) + (1 - half);
}

struct Gates {
    REAL i, f, g, o;
};

struct State {
    REAL h, c, tanh_c;
};

__device__ __forceinline__ State cell_forward(const Gates& gates, REAL c_prev) {
    State state;
    state.c = gates.f * c_prev + gates.i * gates.g;  // (5)
    state.tanh_c = tanh(state.c);
    state.h = gates.o * state.tanh_c;  // (6)
    return state;
}

struct CellGradients {
    REAL dz_i, dz_f, dz_g, dz_o, dc_prev;
};

__device__ __forceinline__ CellGradients cell_backward(REAL dh, REAL dc_next, const Gates& gates, REAL c_prev,
                                                       REAL tanh_c) {
    const REAL i = gates.i, f = gates.f, g = gates.g, o = gates.o;
    const REAL do_ = dh * tanh_c;                              // (7), `do` is a C++ keyword
    const REAL dc = dc_next + dh * o * phi_prime(tanh_c);      // (8)
    const REAL di = dc * g;                                    // (9)
    const REAL df = dc * c_prev;                               // (10)
    const REAL dg = dc * i;                                    // (11)
    CellGradients d;
    d.dc_prev = dc * f;                                        // (12)
    d.dz_i = di * sigma_prime(i);                              // (13)
    d.dz_f = df * sigma_prime(f);                              // (14)
    d.dz_g = dg * phi_prime(g);                                // (15)
    d.dz_o = do_ * sigma_prime(o);                             // (16)
    return d;
}

// --- the inputs and outputs of a pass --------------------------------------------------------------------------------

// Null where not wanted: index, mask, hs, h_last; and all four kept arrays together (inference).
struct Forward {
    Global<const REAL> z_x;     // x W: a row (4H) for each place n or, with an index, for each distinct row of x
    Global<const int> index;    // (T, B)      the row of z_x at each place
    Global<const REAL> U;       // (H, 4H)
    Global<const REAL> b;       // (4H,)
    Global<const REAL> h0;      // (B, H)
    Global<const REAL> c0;      // (B, H)
    Global<const bool> mask;    // (B, T)      false: the row's state stays unchanged
    Global<REAL> gates;         // (T, B, 4H)  kept: i f g o
    Global<REAL> h_prev;        // (T, B, H)   kept
    Global<REAL> c_prev;        // (T, B, H)   kept
    Global<REAL> tanh_c;        // (T, B, H)   kept
    Global<REAL> hs;            // (T, B, H)   every h_t
    Global<REAL> h_last;        // (B, H)      of the last computed step
    Global<REAL> c_last;        // (B, H)
    int T, B;
    bool reverse;               // from the last time to the first

    // the time of the step computed as number s
    __device__ int time(int s) const { return reverse ? T - 1 - s : s; }
    __device__ long long place(int t, int row) const { return (long long)t * B + row; }
    __device__ int row_of_z_x(long long n) const { return index ? int(index[n]) : int(n); }
    __device__ bool valid(int t, int row) const { return mask ? bool(mask[(long long)row * T + t]) : true; }
};

// Null where it is zero or not wanted: mask, dhs, dh_last, dc_last.
struct Backward {
    Global<const REAL> U;       // (H, 4H)
    Global<const bool> mask;    // (B, T)
    Global<const REAL> gates;   // (T, B, 4H)  kept by the forward pass, like the next two
    Global<const REAL> c_prev;  // (T, B, H)
    Global<const REAL> tanh_c;  // (T, B, H)
    Global<const REAL> dhs;     // (T, B, H)   dL/dh_t from above
    Global<const REAL> dh_last; // (B, H)      additional dL/dh of the last computed step
    Global<const REAL> dc_last; // (B, H)
    Global<REAL> dz;            // (T, B, 4H)
    Global<REAL> dh0;           // (B, H)
    Global<REAL> dc0;           // (B, H)
    int T, B;
    bool reverse;

    __device__ int time(int s) const { return reverse ? T - 1 - s : s; }
    __device__ long long place(int t, int row) const { return (long long)t * B + row; }
    __device__ bool valid(int t, int row) const { return mask ? bool(mask[(long long)row * T + t]) : true; }
};

#if VERSION == 1 || VERSION == 2
// --- versions 1 and 2: a block owns a batch row, a thread owns a column of z -----------------------------------------

#define THREADS COLUMNS

// The H elements of U that this thread multiplies with, the same at every step: in global memory in version 1,
// in registers in version 2. Number m of them is `start[m step]`.
struct Weights {
#if VERSION == 1
    static constexpr int UNROLL = 4;  // with UNITS, the compiler would turn it into version 2
    Global<const REAL> start;
    int step;
    __device__ Weights(Global<const REAL> start, int step) : start(start), step(step) {}
    __device__ REAL operator[](int m) const { return start[m * step]; }
#else
    static constexpr int UNROLL = UNITS;  // registers cannot be indexed: the number must be known
    REAL held[UNITS];
    __device__ Weights(Global<const REAL> start, int step) {
#pragma unroll
        for (int m = 0; m < UNITS; ++m) held[m] = start[m * step];
    }
    __device__ REAL operator[](int m) const { return held[m]; }
#endif
};

__device__ void forward(const Forward& lstm) {
    Shared<REAL> h = shared_memory<REAL>(0, UNITS);
    Shared<REAL> gates = shared_memory<REAL>(UNITS, COLUMNS);
    const int row = blockIdx.x, column = threadIdx.x, unit = threadIdx.x;
    const Weights U_column(lstm.U + column, COLUMNS);  // U[k, column] for each k

    REAL c = 0;
    if (unit < UNITS) {
        h[unit] = lstm.h0[row * UNITS + unit];
        c = lstm.c0[row * UNITS + unit];
    }
    __syncthreads();  // h0 is in its place
    for (int s = 0; s < lstm.T; ++s) {
        const int t = lstm.time(s);
        const long long n = lstm.place(t, row);
        REAL z = lstm.z_x[(long long)lstm.row_of_z_x(n) * COLUMNS + column] + lstm.b[column];
#pragma unroll Weights::UNROLL
        for (int k = 0; k < UNITS; ++k) z += h[k] * U_column[k];
        const REAL a = activate(z, column / UNITS);
        gates[column] = a;
        if (lstm.gates) lstm.gates[n * COLUMNS + column] = a;
        __syncthreads();  // all gates are there, and nobody needs h_prev any more
        if (unit < UNITS) {
            const REAL h_prev = h[unit], c_prev = c;
            const Gates own = {gates[unit], gates[UNITS + unit], gates[2 * UNITS + unit], gates[3 * UNITS + unit]};
            const State state = cell_forward(own, c_prev);
            const bool valid = lstm.valid(t, row);
            h[unit] = valid ? state.h : h_prev;
            c = valid ? state.c : c_prev;
            if (lstm.gates) {
                lstm.h_prev[n * UNITS + unit] = h_prev;
                lstm.c_prev[n * UNITS + unit] = c_prev;
                lstm.tanh_c[n * UNITS + unit] = state.tanh_c;
            }
            if (lstm.hs) lstm.hs[n * UNITS + unit] = h[unit];
        }
        __syncthreads();  // all of h is there, and nobody needs the gates any more
    }
    if (unit < UNITS) {
        if (lstm.h_last) lstm.h_last[row * UNITS + unit] = h[unit];
        lstm.c_last[row * UNITS + unit] = c;
    }
}

__device__ void backward(const Backward& lstm) {
    Shared<REAL> dz = shared_memory<REAL>(0, COLUMNS);
    Shared<REAL> sums = shared_memory<REAL>(COLUMNS, COLUMNS);
    const int row = blockIdx.x, unit = threadIdx.x;                        // for (7) to (16)
    const int gate = threadIdx.x / UNITS, k = threadIdx.x % UNITS;         // for (18): dh_prev[k], this gate's part
    const Weights U_row(lstm.U + k * COLUMNS + gate * UNITS, 1);           // U[k, columns of this gate]

    REAL dh_next = 0, dc_next = 0;
    if (unit < UNITS) {
        if (lstm.dh_last) dh_next = lstm.dh_last[row * UNITS + unit];
        if (lstm.dc_last) dc_next = lstm.dc_last[row * UNITS + unit];
    }
    for (int s = lstm.T - 1; s >= 0; --s) {
        const int t = lstm.time(s);
        const long long n = lstm.place(t, row);
        const bool valid = lstm.valid(t, row);
        REAL dh_past = 0;  // what bypasses a masked step
        if (unit < UNITS) {
            const REAL dh = dh_next + (lstm.dhs ? REAL(lstm.dhs[n * UNITS + unit]) : REAL(0));
            REAL own[4];
            for (int each = 0; each < 4; ++each) own[each] = lstm.gates[n * COLUMNS + each * UNITS + unit];
            const Gates gates = {own[0], own[1], own[2], own[3]};
            const CellGradients d =
                cell_backward(dh, dc_next, gates, lstm.c_prev[n * UNITS + unit], lstm.tanh_c[n * UNITS + unit]);
            const REAL dz_own[4] = {d.dz_i, d.dz_f, d.dz_g, d.dz_o};
            for (int each = 0; each < 4; ++each) {
                const REAL value = valid ? dz_own[each] : REAL(0);
                dz[each * UNITS + unit] = value;
                lstm.dz[n * COLUMNS + each * UNITS + unit] = value;
            }
            dh_past = valid ? REAL(0) : dh;
            dc_next = valid ? d.dc_prev : dc_next;
        }
        __syncthreads();  // all of dz is there
        REAL sum = 0;
#pragma unroll Weights::UNROLL
        for (int m = 0; m < UNITS; ++m) sum += dz[gate * UNITS + m] * U_row[m];
        sums[threadIdx.x] = sum;
        __syncthreads();  // all sums are there, and nobody needs dz any more
        if (unit < UNITS) {
            dh_next = dh_past;
            for (int each = 0; each < 4; ++each) dh_next += sums[each * UNITS + unit];  // (18)
        }
    }
    if (unit < UNITS) {
        lstm.dh0[row * UNITS + unit] = dh_next;
        lstm.dc0[row * UNITS + unit] = dc_next;
    }
}
#endif

#if VERSION == 3
// --- version 3: a block owns ROWS batch rows, four threads own a unit ------------------------------------------------
//
// Version 2 reads all of h from shared memory in every thread, one number for one multiplication, and shared memory
// gives 32 numbers a cycle where the multiplier takes 128. Here each number read is used four times:
//
//   forward    The four threads of a unit (a quad) divide k among them: each takes a quarter of h, and multiplies each
//              number with U[k, .] of all four gates of the unit. Then the quad exchanges sums, so that each thread has
//              one gate's z, and then the gates, so that each has all four.
//   backward   16 threads divide the columns among them: each takes a sixteenth of dz, and multiplies each number
//              with U of four units. Then they exchange sums, so that each quad has dh_prev of its unit.
//
// These exchanges are shuffles, from register to register within a warp. What crosses warps, h or dz, goes through
// shared memory, in two alternating copies: a step reads one and writes the other, so one barrier per step suffices.

constexpr int THREADS = (COLUMNS + 31) / 32 * 32;  // whole warps; threads beyond the last unit multiply zeros
constexpr int PART = (UNITS + 3) / 4;              // a thread's share: this many elements of h, or of one gate's dz
// Each share starts at a multiple of 4, to be read four at a time, and the multiple is odd, so that the shares a warp
// reads together are in different banks.
constexpr int STRIDE = ((PART + 3) / 4 | 1) * 4;

#ifndef HELD
#define HELD PART
#endif

// The index in shared memory of element k of a vector of H.
__device__ __forceinline__ int slot(int k) { return k / PART * STRIDE + k % PART; }

__device__ __forceinline__ REAL element(const Four<REAL>& four, int q) {
    return q == 0 ? four.x : q == 1 ? four.y : q == 2 ? four.z : four.w;
}

// The PART times 4 numbers of U that this thread multiplies with: HELD times 4 of them in registers, the rest in shared
// memory, private to each thread.
struct Weights {
    Four<REAL> held[HELD > 0 ? HELD : 1] = {};
    Shared<REAL> rest;  // (PART - HELD, THREADS, 4)

    __device__ explicit Weights(Shared<REAL> rest) : rest(rest) {}

    __device__ __forceinline__ void set(int m, const Four<REAL>& w) {
        if (m < HELD)
            held[m] = w;
        else
            store_four(rest + ((m - HELD) * THREADS + int(threadIdx.x)) * 4, w);
    }
    __device__ __forceinline__ Four<REAL> get(int m) const {
        if (m < HELD) return held[m];
        return load_four(rest + ((m - HELD) * THREADS + int(threadIdx.x)) * 4);
    }
};

// For each row, sum over m of share[m] times the four weights number m. `row_size` is the length of a row of `share`.
__device__ __forceinline__ void products(const Weights& weights, Shared<REAL> share, int row_size,
                                         Four<REAL> (&sums)[ROWS]) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sums[r] = {0, 0, 0, 0};
#pragma unroll
    for (int m = 0; m < PART; m += 4) {
        Four<REAL> values[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) values[r] = load_four(share + (r * row_size + m));
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            if (m + q >= PART) continue;
            const Four<REAL> w = weights.get(m + q);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                const REAL value = element(values[r], q);
                sums[r].x += value * w.x;
                sums[r].y += value * w.y;
                sums[r].z += value * w.z;
                sums[r].w += value * w.w;
            }
        }
    }
}

constexpr unsigned WARP = 0xffffffffu;

// Four threads, `apart` lanes from each other, have four partial sums each: thread number `own` gets the total of sum
// number `own`. First two threads exchange pairs of sums, then neighbours exchange one each.
__device__ __forceinline__ REAL total(const Four<REAL>& sums, int own, int apart) {
    const bool upper = own & 2, odd = own & 1;
    REAL even_sum = upper ? sums.z : sums.x, odd_sum = upper ? sums.w : sums.y;
    even_sum += __shfl_xor_sync(WARP, upper ? sums.x : sums.z, 2 * apart);
    odd_sum += __shfl_xor_sync(WARP, upper ? sums.y : sums.w, 2 * apart);
    return (odd ? odd_sum : even_sum) + __shfl_xor_sync(WARP, odd ? even_sum : odd_sum, apart);
}

// i f g o of a unit for its whole quad, each thread of which has one of them.
__device__ __forceinline__ Gates all_gates(REAL a) {
    const int first = threadIdx.x % 32 & ~3;
    return {__shfl_sync(WARP, a, first), __shfl_sync(WARP, a, first + 1), __shfl_sync(WARP, a, first + 2),
            __shfl_sync(WARP, a, first + 3)};
}

__device__ void forward(const Forward& lstm) {
    constexpr int ROW = 4 * STRIDE;  // h of a batch row
    Shared<REAL> h = shared_memory<REAL>(0, 2 * ROWS * ROW);
    const int unit = threadIdx.x / 4, part = threadIdx.x % 4;  // of a quad; `part` of h, and the gate of that number
    const int column = part * UNITS + unit;
    const int first_row = blockIdx.x * ROWS;
    const int rows = unit < UNITS ? min(ROWS, lstm.B - first_row) : 0;  // that this thread works on

    Weights U_unit(shared_memory<REAL>(2 * ROWS * ROW, (PART - HELD) * THREADS * 4));
#pragma unroll
    for (int m = 0; m < PART; ++m) {
        const int k = part * PART + m;
        Four<REAL> w = {0, 0, 0, 0};
        if (unit < UNITS && k < UNITS) {
            Global<const REAL> U_k = lstm.U + (k * COLUMNS + unit);
            w = {U_k[0], U_k[UNITS], U_k[2 * UNITS], U_k[3 * UNITS]};
        }
        U_unit.set(m, w);
    }

    REAL h_own[ROWS], c[ROWS];  // in each thread of the quad
    // A step's data are requested from global memory one step ahead; the row number of z_x, needed for that, two ahead.
    REAL z_x_next[ROWS];
    bool valid_next[ROWS];
    int row_next[ROWS];
    auto ask_row = [&](int s) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            row_next[r] = 0;
            if (r < rows && s < lstm.T) row_next[r] = lstm.row_of_z_x(lstm.place(lstm.time(s), first_row + r));
        }
    };
    auto ask = [&](int s) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            z_x_next[r] = 0;
            valid_next[r] = true;
            if (r < rows && s < lstm.T) {
                z_x_next[r] = lstm.z_x[(long long)row_next[r] * COLUMNS + column];
                valid_next[r] = lstm.valid(lstm.time(s), first_row + r);
            }
        }
        ask_row(s + 1);
    };
    for (int at = threadIdx.x; at < 2 * ROWS * ROW; at += THREADS) h[at] = 0;
    __syncthreads();  // h is zero, also where no unit stands
    const REAL b = unit < UNITS ? REAL(lstm.b[column]) : REAL(0);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        h_own[r] = c[r] = 0;
        if (r < rows) {
            h_own[r] = lstm.h0[(first_row + r) * UNITS + unit];
            c[r] = lstm.c0[(first_row + r) * UNITS + unit];
            if (part == 0) h[r * ROW + slot(unit)] = h_own[r];
        }
    }
    ask_row(0);
    ask(0);
    __syncthreads();  // h0 is there

    for (int s = 0; s < lstm.T; ++s) {
        const int t = lstm.time(s), now = s % 2 * ROWS * ROW, next = ROWS * ROW - now;
        REAL z_x[ROWS];
        bool valid[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            z_x[r] = z_x_next[r];
            valid[r] = valid_next[r];
        }
        ask(s + 1);
        Four<REAL> sums[ROWS];
        products(U_unit, h + (now + part * STRIDE), ROW, sums);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const REAL z = total(sums[r], part, 1) + z_x[r] + b;
            const REAL a = activate(z, part);
            const REAL h_prev = h_own[r], c_prev = c[r];
            const State state = cell_forward(all_gates(a), c_prev);
            h_own[r] = valid[r] ? state.h : h_prev;
            c[r] = valid[r] ? state.c : c_prev;
            if (r < rows) {
                const long long n = lstm.place(t, first_row + r);
                if (part == 0) h[next + r * ROW + slot(unit)] = h_own[r];
                if (lstm.gates) {
                    lstm.gates[n * COLUMNS + column] = a;
                    if (part == 1) lstm.h_prev[n * UNITS + unit] = h_prev;
                    if (part == 2) lstm.c_prev[n * UNITS + unit] = c_prev;
                    if (part == 3) lstm.tanh_c[n * UNITS + unit] = state.tanh_c;
                }
                if (lstm.hs && part == 0) lstm.hs[n * UNITS + unit] = h_own[r];
            }
        }
        __syncthreads();  // all of h is there, and nobody needs the other copy any more
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        if (r >= rows || part != 0) continue;
        if (lstm.h_last) lstm.h_last[(first_row + r) * UNITS + unit] = h_own[r];
        lstm.c_last[(first_row + r) * UNITS + unit] = c[r];
    }
}

__device__ void backward(const Backward& lstm) {
    constexpr int ROW = 16 * STRIDE;  // dz of a batch row: for each gate as h
    Shared<REAL> dz = shared_memory<REAL>(0, 2 * ROWS * ROW);
    const int unit = threadIdx.x / 4, part = threadIdx.x % 4;  // of a quad; `part` is also a gate's number
    const int column = part * UNITS + unit;
    const int share = threadIdx.x % 16;  // of dz: columns of gate share / 4, its quarter share % 4
    const int first_unit = unit & ~3;    // of the four units that the 16 threads own
    const int first_row = blockIdx.x * ROWS;
    const int rows = unit < UNITS ? min(ROWS, lstm.B - first_row) : 0;

    Weights U_share(shared_memory<REAL>(2 * ROWS * ROW, (PART - HELD) * THREADS * 4));
#pragma unroll
    for (int m = 0; m < PART; ++m) {
        const int of_gate = share % 4 * PART + m;
        REAL w[4];
#pragma unroll
        for (int each = 0; each < 4; ++each) {
            const int k = first_unit + each;
            w[each] = 0;
            if (k < UNITS && of_gate < UNITS) w[each] = lstm.U[k * COLUMNS + share / 4 * UNITS + of_gate];
        }
        U_share.set(m, {w[0], w[1], w[2], w[3]});
    }

    // the gradients with respect to the states, in each thread of the quad
    REAL dh_next[ROWS], dc_next[ROWS];
    // of a step, requested one step ahead
    REAL a[ROWS], c_prev[ROWS], tanh_c[ROWS], dh_above[ROWS];
    bool valid[ROWS];
    auto ask = [&](int s) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            a[r] = c_prev[r] = tanh_c[r] = dh_above[r] = 0;
            valid[r] = true;
            if (r < rows && s >= 0) {
                const int row = first_row + r, t = lstm.time(s);
                const long long n = lstm.place(t, row);
                a[r] = lstm.gates[n * COLUMNS + column];
                c_prev[r] = lstm.c_prev[n * UNITS + unit];
                tanh_c[r] = lstm.tanh_c[n * UNITS + unit];
                if (lstm.dhs) dh_above[r] = lstm.dhs[n * UNITS + unit];
                valid[r] = lstm.valid(t, row);
            }
        }
    };
    for (int at = threadIdx.x; at < 2 * ROWS * ROW; at += THREADS) dz[at] = 0;
    __syncthreads();  // dz is zero, also where no unit stands
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const long long own = (long long)(first_row + r) * UNITS + unit;
        dh_next[r] = r < rows && lstm.dh_last ? REAL(lstm.dh_last[own]) : REAL(0);
        dc_next[r] = r < rows && lstm.dc_last ? REAL(lstm.dc_last[own]) : REAL(0);
    }
    ask(lstm.T - 1);

    for (int s = lstm.T - 1; s >= 0; --s) {
        const int t = lstm.time(s), now = s % 2 * ROWS * ROW;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const REAL dh = dh_next[r] + dh_above[r];
            const CellGradients d = cell_backward(dh, dc_next[r], all_gates(a[r]), c_prev[r], tanh_c[r]);
            const REAL dz_gate = part == 0 ? d.dz_i : part == 1 ? d.dz_f : part == 2 ? d.dz_g : d.dz_o;
            const REAL dz_own = valid[r] ? dz_gate : REAL(0);
            dh_next[r] = valid[r] ? REAL(0) : dh;  // what bypasses a masked step; (18) is added below
            dc_next[r] = valid[r] ? d.dc_prev : dc_next[r];
            if (r < rows) {
                dz[now + r * ROW + part * 4 * STRIDE + slot(unit)] = dz_own;
                lstm.dz[lstm.place(t, first_row + r) * COLUMNS + column] = dz_own;
            }
        }
        ask(s - 1);
        __syncthreads();  // all of dz is there, and nobody needs the other copy any more
        Four<REAL> sums[ROWS];
        products(U_share, dz + (now + share * STRIDE), ROW, sums);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            REAL dh_prev = total(sums[r], share / 4, 4);  // from the four threads at this place in the other quads
            dh_prev += __shfl_xor_sync(WARP, dh_prev, 1);
            dh_prev += __shfl_xor_sync(WARP, dh_prev, 2);
            dh_next[r] += dh_prev;  // (18)
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        if (r >= rows || part != 0) continue;
        lstm.dh0[(first_row + r) * UNITS + unit] = dh_next[r];
        lstm.dc0[(first_row + r) * UNITS + unit] = dc_next[r];
    }
}
#endif

#if VERSION == 0
// --- too large for a multiprocessor: one product and one of these kernels per step -----------------------------------
//
// A thread owns a unit of a batch row; H may be any. The products, h_prev U forward and (18) backward, are computed
// between the launches.

constexpr int THREADS = 256;

// `z` holds h_prev U and becomes the gates; `h` and `c` are the states, advanced by a step.
extern "C" __global__ void lstm_step_forward(
    Global<REAL> __restrict__ z, Global<REAL> __restrict__ h, Global<REAL> __restrict__ c,
    Global<const REAL> __restrict__ z_x, Global<const int> __restrict__ index, Global<const REAL> __restrict__ b,
    Global<const bool> __restrict__ mask, Global<REAL> __restrict__ h_prevs, Global<REAL> __restrict__ c_prevs,
    Global<REAL> __restrict__ tanh_cs, Global<REAL> __restrict__ hs, int t, int T, int B, int H) {
    const long long own = (long long)blockIdx.x * THREADS + threadIdx.x;  // in (B, H)
    if (own >= (long long)B * H) return;
    const int row = int(own / H), unit = int(own % H);
    const long long n = (long long)t * B + row, of_x = index ? index[n] : n;
    REAL a[4];
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) {
        const int column = gate * H + unit;
        const long long own_z = (long long)row * 4 * H + column;
        a[gate] = activate(z[own_z] + z_x[of_x * 4 * H + column] + b[column], gate);
        z[own_z] = a[gate];
    }
    const REAL h_prev = h[own], c_prev = c[own];
    const State state = cell_forward({a[0], a[1], a[2], a[3]}, c_prev);
    const bool valid = mask ? bool(mask[(long long)row * T + t]) : true;
    h[own] = valid ? state.h : h_prev;
    c[own] = valid ? state.c : c_prev;
    const long long kept = n * H + unit;
    if (h_prevs) {
        h_prevs[kept] = h_prev;
        c_prevs[kept] = c_prev;
        tanh_cs[kept] = state.tanh_c;
    }
    if (hs) hs[kept] = h[own];
}

// `dh_next` holds (18) of the step computed before this one, to which `dh_past` has to be added; this step's (18) is
// computed from dz next. `dh_past` and `dc_next` are advanced by a step.
extern "C" __global__ void lstm_step_backward(
    Global<const REAL> __restrict__ dh_next, Global<REAL> __restrict__ dh_past, Global<REAL> __restrict__ dc_next,
    Global<const REAL> __restrict__ dhs, Global<const bool> __restrict__ mask, Global<const REAL> __restrict__ gates,
    Global<const REAL> __restrict__ c_prevs, Global<const REAL> __restrict__ tanh_cs, Global<REAL> __restrict__ dz,
    int t, int T, int B, int H) {
    const long long own = (long long)blockIdx.x * THREADS + threadIdx.x;  // in (B, H)
    if (own >= (long long)B * H) return;
    const int row = int(own / H), unit = int(own % H);
    const long long n = (long long)t * B + row, kept = n * H + unit, first = n * 4 * H + unit;
    const Gates own_gates = {gates[first], gates[first + H], gates[first + 2 * H], gates[first + 3 * H]};
    const REAL above = dhs ? dhs[kept] : REAL(0);
    const REAL dh = dh_next[own] + dh_past[own] + above;
    const REAL dc = dc_next[own];
    const CellGradients d = cell_backward(dh, dc, own_gates, c_prevs[kept], tanh_cs[kept]);
    const bool valid = mask ? bool(mask[(long long)row * T + t]) : true;
    dz[first] = valid ? d.dz_i : REAL(0);
    dz[first + H] = valid ? d.dz_f : REAL(0);
    dz[first + 2 * H] = valid ? d.dz_g : REAL(0);
    dz[first + 3 * H] = valid ? d.dz_o : REAL(0);
    dh_past[own] = valid ? REAL(0) : dh;
    dc_next[own] = valid ? d.dc_prev : dc;
}
#else
// --- the kernels: a block for each row, or for each ROWS rows --------------------------------------------------------

extern "C" __global__ void __launch_bounds__(THREADS, 1) lstm_forward(
    Global<const REAL> __restrict__ z_x, Global<const int> __restrict__ index, Global<const REAL> __restrict__ U,
    Global<const REAL> __restrict__ b, Global<const REAL> __restrict__ h0, Global<const REAL> __restrict__ c0,
    Global<const bool> __restrict__ mask, Global<REAL> __restrict__ gates, Global<REAL> __restrict__ h_prev,
    Global<REAL> __restrict__ c_prev, Global<REAL> __restrict__ tanh_c, Global<REAL> __restrict__ hs,
    Global<REAL> __restrict__ h_last, Global<REAL> __restrict__ c_last, int T, int B, bool reverse) {
    forward({z_x, index, U, b, h0, c0, mask, gates, h_prev, c_prev, tanh_c, hs, h_last, c_last, T, B, reverse});
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) lstm_backward(
    Global<const REAL> __restrict__ U, Global<const bool> __restrict__ mask, Global<const REAL> __restrict__ gates,
    Global<const REAL> __restrict__ c_prev, Global<const REAL> __restrict__ tanh_c, Global<const REAL> __restrict__ dhs,
    Global<const REAL> __restrict__ dh_last, Global<const REAL> __restrict__ dc_last, Global<REAL> __restrict__ dz,
    Global<REAL> __restrict__ dh0, Global<REAL> __restrict__ dc0, int T, int B, bool reverse) {
    backward({U, mask, gates, c_prev, tanh_c, dhs, dh_last, dc_last, dz, dh0, dc0, T, B, reverse});
}
#endif
