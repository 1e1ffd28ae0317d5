"""The emulated GPU itself: kernels that are right give the right numbers, and each kind of mistake is caught."""

import functools

import numpy as np
import pytest
import raw_module
from raw_module import CompileException, EmulationError, RawModule

from scratchlstm._support import device

pytestmark = pytest.mark.skipif(raw_module.compiler() is None, reason="neither g++ nor clang++ is here")

WORDS = (device._FOLDER / "gpu.cuh").read_text()
PARAMETERS = "Global<const float> x, Global<float> y, int n"
TOYS = []  # the source of each; they are compiled together, which is quicker


def toy(body, parameters=PARAMETERS):
    """A kernel of this body."""
    name = f"toy_{len(TOYS)}"
    TOYS.append(kernel_source(name, body, parameters))
    return lambda grid, block, args, **options: toys().get_function(name)(grid, block, args, **options)


def kernel_source(name, body, parameters=PARAMETERS):
    return (
        f'extern "C" __global__ void {name}({parameters})\n'
        f"{{\n[[maybe_unused]] const int j = threadIdx.x;\n{body}\n}}\n"
    )


@functools.cache
def toys():
    return RawModule(code=WORDS + STRUCT + "".join(TOYS))


def numbers(n):
    return np.arange(1, n + 1, dtype="float32")


def zeros(n):
    return np.zeros(n, "float32")


NONE = np.int32(0)
NULL = np.uintp(0)

# the block's sum, by halves; several of the mistakes below are this kernel with something missing
TREE = """
    Shared<float> part = shared_memory<float>(0, 8);
    part[j] = j < n ? x[j] : 0.0f;
    for (int half = 4; half; half /= 2) {
        __syncthreads();
        if (j < half) part[j] += part[j + half];
    }
    if (j == 0) y[blockIdx.x] = part[0];
"""
sum_by_halves = toy(TREE)


def test_a_sum_by_halves():
    y = zeros(3)
    sum_by_halves((3,), (8,), (numbers(7), y, np.int32(7)), shared_mem=32)
    assert np.array_equal(y, [28, 28, 28])


name_yourself = toy("""
    const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    const int block = blockIdx.y * gridDim.x + blockIdx.x;
    y[block * 10 + thread] = 100.0f * float(block) + float(thread);
""")


def test_threads_and_blocks_have_three_dimensions():
    y = zeros(2 * 3 * 4 * 5)
    name_yourself((3, 4), (1, 5, 2), (NULL, y, NONE))
    assert np.array_equal(y, [100 * (k // 10) + k % 10 for k in range(120)])


three_memories = toy("""
    shared_array(float, a, 8);
    shared_array(double, b, 8);
    Shared<float> c = shared_memory<float>(0, 8);
    a[j] = x[j]; b[j] = double(2 * x[j]); c[j] = 3 * x[j];
    __syncthreads();
    y[j] = a[7 - j] + float(b[7 - j]) + c[7 - j];
""")


def test_static_and_dynamic_shared_memory_side_by_side():
    y = zeros(8)
    three_memories((1,), (8,), (numbers(8), y, NONE), shared_mem=32)
    assert np.array_equal(y, 6 * numbers(8)[::-1])


exchange = toy("""
    float sum = x[j];
    for (int by = 16; by; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
    const float next = __shfl_down_sync(~0u, x[j], 1);
    y[j] = sum + 10000 * next + 1000000 * __shfl_sync(~0u, next, 3);
""")


def test_a_warp_exchanges_numbers():
    y = zeros(64)
    exchange((1,), (64,), (numbers(64), y, NONE))
    warps = numbers(64).reshape(2, 32)
    following = np.concatenate([warps[:, 1:], warps[:, -1:]], axis=1)
    expected = warps.sum(1)[:, None] + 10000 * following + 1000000 * following[:, 3:4]
    assert np.array_equal(y.reshape(2, 32), expected)


of_the_other = toy("""
    shared_array(float, a, 64);
    a[j] = x[j];
    __syncwarp();
    y[j] = a[j ^ n];
""")


def test_a_warps_barrier_orders_its_threads_only():
    y = zeros(64)
    of_the_other((1,), (64,), (numbers(64), y, np.int32(1)))
    assert np.array_equal(y, 1 + (np.arange(64) ^ 1))
    with pytest.raises(EmulationError, match="a barrier is missing"):
        of_the_other((1,), (64,), (numbers(64), y, np.int32(32)))


atomics = toy(
    "atomicAdd(y + 0, x[j]); atomicCAS(first, 0, 1 + j);",
    "Global<const float> x, Global<float> y, Global<int> first",
)


def test_atomics_from_all_blocks():
    y, first = zeros(1), np.zeros(1, "int32")
    atomics((3,), (8,), (numbers(8), y, first))
    assert (y[0], first[0]) == (3 * 36, 1)


copy_four = toy("store_four(y + 4 * j, load_four(x + n + 4 * j));")


def test_four_at_once():
    y = zeros(32)
    copy_four((1,), (8,), (numbers(32), y, NONE))
    assert np.array_equal(y, numbers(32))
    with pytest.raises(EmulationError, match=r"x\[1\] is accessed as four, but its address is no multiple of 16 bytes"):
        copy_four((1,), (1,), (numbers(32), y, np.int32(1)))
    with pytest.raises(EmulationError, match=r"x\[32\] is read, but it has 32 elements"):
        copy_four((1,), (8,), (numbers(32), y, np.int32(4)))


given = toy("y[j] = n || x ? x[j] : 2.0f;")


def test_no_array_is_null():
    y = zeros(8)
    given((1,), (8,), (NULL, y, NONE))
    assert np.array_equal(y, np.full(8, 2))
    with pytest.raises(EmulationError, match="x is read, but it is None"):
        given((1,), (8,), (NULL, y, np.int32(1)))


STRUCT = "struct Table { Pointer<float> at[2]; unsigned size; double factor; };\n"
LAYOUT = np.dtype([("at", np.uint64, 2), ("size", np.uint32), ("factor", np.float64)], align=True)
scale_all = toy(
    "Global<float> y = global_memory(table.at[blockIdx.x], table.size); y[j] *= float(table.factor);",
    "const Table table",
)


def test_a_struct_with_pointers_by_value():
    a, b = numbers(8), numbers(8)
    table = np.array([((a.ctypes.data, b.ctypes.data), 8, 3.0)], LAYOUT)
    scale_all((2,), (8,), (table,))
    assert np.array_equal(a, 3 * numbers(8))
    assert np.array_equal(b, 3 * numbers(8))
    with pytest.raises(EmulationError, match=r"\[8\] is read, but it has 8 elements"):
        scale_all((2,), (9,), (table,))
    packed = np.zeros(1, np.dtype([*LAYOUT.descr[:2], ("factor", "f8")]))
    with pytest.raises(EmulationError, match="argument 0, table, has elements of dtype V28, but the kernel takes V32"):
        scale_all((2,), (8,), (packed,))


MISSING = "a barrier is missing between the two"
MISTAKES = {
    "a barrier is missing": (
        TREE.replace("__syncthreads();", ""),
        r"thread \(0, 0, 0\): shared memory\[4\] is read, but nobody has written it",
    ),
    "a barrier is missing in a loop": (
        TREE.replace("__syncthreads();", "if (half == 4) __syncthreads();"),
        rf"since the barrier in line \d+: {MISSING}",
    ),
    "a word is written while another thread may still read it": (
        TREE + "if (j) y[j] = part[1]; if (j == 0) part[1] = 0;",
        rf"shared memory\[1\] is (read, and written|written, and read) by thread .*: {MISSING}",
    ),
    "two threads write one word": (
        "shared_array(float, a, 4); a[j / 2] = 1;",
        r"a\[0\] is written, and also written by thread \(0, 0, 0\)",
    ),
    "two threads write one word of global memory": (
        "y[j / 2] = x[j];",
        r"y\[0\] is written, and also written by thread \(0, 0, 0\)",
    ),
    "a neighbour's result is read too early": (
        "y[j] = x[j]; if (j) y[j] = y[j - 1];",
        r"y\[0\] is read, and written by thread \(0, 0, 0\)",
    ),
    "an early return before a barrier": (
        "if (j >= n) return; __syncthreads(); y[j] = x[j];",
        r"block \(0, 0, 0\): thread \(0, 0, 0\) waits at the barrier in line \d+, but thread \(7, 0, 0\) has ended: "
        r"not all reach the same barrier",
    ),
    "a barrier in a branch": (
        "if (j < 4) __syncthreads();\ny[j] = x[j];",
        r"waits at the barrier in line \d+, but thread \(4, 0, 0\) has ended",
    ),
    "different barriers": (
        "if (j < 4) __syncthreads();\nelse __syncthreads();",
        r"waits at the barrier in line \d+, but thread \(4, 0, 0\) waits at the barrier in line \d+",
    ),
    "loops of different lengths": ("for (int k = 0; k < j; k++) __syncthreads();", "has ended: not all reach"),
    "part of a warp does not shuffle": ("if (j < 4) __shfl_xor_sync(~0u, 1.0f, 1);", "waits for its warp in line"),
    "a lane outside the shuffle is read": (
        "if (j < 4) __shfl_xor_sync(15u, 1.0f, 4);",
        "reads lane 4, which takes no part in it",
    ),
    "beyond the end": ("y[j] = x[j + 1];", r"thread \(7, 0, 0\): x\[8\] is read, but it has 8 elements"),
    "before the begin": ("y[j - 1] = x[j];", r"thread \(0, 0, 0\): y\[-1\] is written, but it has 8 elements"),
    "beyond one part of shared memory, within the next": (
        "Shared<float> a = shared_memory<float>(0, 4), b = shared_memory<float>(4, 4); if (j < 4) b[j] = 0; a[j] = 0;",
        r"shared memory\[4\] is written, but it has 4 elements",
    ),
    "beyond a static array": ("shared_array(float, a, 7); a[j] = x[j];", r"a\[7\] is written, but it has 7 elements"),
    "more shared memory than there is": (
        "shared_memory<float>(0, 9);",
        "from element 0 to 9 of 4 bytes each is asked for, but the launch has 32 bytes",
    ),
    "shared memory that nobody wrote": (
        "shared_array(float, a, 8); y[j] = a[j];",
        r"a\[0\] is read, but nobody has written it",
    ),
    "shared memory of the block before": (
        "shared_array(float, a, 8); if (blockIdx.x == 0) a[j] = 1; y[j + 8 * int(blockIdx.x)] = a[j];",
        r"block \(1, 0, 0\), .* nobody has written it",
    ),
    "two blocks write one word": (
        "y[j + 8 * int(blockIdx.x) / 2] = x[j];",
        "also written by block number 0, and blocks run in no order",
    ),
    "a block reads what another one writes": (
        "if (blockIdx.x == 0) y[j] = 1; else if (y[j] > 5) y[j + 8] = 1;",
        "read, and written by block number 0",
    ),
    "a block writes what another one reads": (
        "if (blockIdx.x == 1) y[0] = 1; else if (y[0] > 5) y[j + 8] = 1;",
        "written, and read by block number 0",
    ),
}
mistaken = {mistake: toy(body) for mistake, (body, _) in MISTAKES.items()}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_caught(mistake):
    blocks = 2 if "block" in mistake else 1
    with pytest.raises(EmulationError, match=MISTAKES[mistake][1]):
        mistaken[mistake]((blocks,), (8,), (numbers(8), zeros(8 * blocks), np.int32(7)), shared_mem=32)


copy = toy("y[j] = x[j];")


def test_overlapping_arguments_are_one_memory():
    memory = numbers(9)
    with pytest.raises(EmulationError, match=r"x\[1\] is read, and written by|y\[0\] is written, and read by"):
        copy((1,), (8,), (memory[:8], memory[1:], NONE))


X, Y, N = numbers(8), zeros(8), np.int32(8)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((X, Y), "takes 3 arguments, but was launched with 2"),
        ((X, Y, 8), "argument 2, n, has elements of dtype i8, but the kernel takes i4"),
        ((X, Y, 8.0), "argument 2, n, has elements of dtype f8, but the kernel takes i4"),
        ((X.astype("float64"), Y, N), "argument 0, x, has elements of dtype f8, but the kernel takes f4"),
        ((X, Y.astype("int32"), N), "argument 1, y, has elements of dtype i4, but the kernel takes f4"),
        ((X, Y, Y), "argument 2, n, is an array or None, but the kernel takes a number"),
        ((N, Y, N), "argument 0, x, is a number, but the kernel takes an array"),
        ((np.zeros((8, 2), "float32")[:, 0], Y, N), r"shape \(8,\) and strides \(8,\) is not contiguous"),
        (([1.0], Y, N), "a kernel takes arrays and numbers, not list"),
        ((None, Y, N), "CuPy makes no null pointer of None"),
        ((X, Y, True), "a kernel takes arrays and numbers, not bool"),
    ],
)
def test_arguments_that_do_not_fit(args, message):
    with pytest.raises(EmulationError, match=message):
        copy((1,), (8,), args)


idle = toy("", "")


def test_sizes_that_no_gpu_has():
    for grid, block, shared_mem, message in [
        ((0,), (8,), 0, "the grid is"),
        ((1,), (33, 32), 0, "more than 1024 threads"),
        (1, (8,), 0, "the grid is 1"),
        ((1,), (8,), (48 << 10) + 1, "max_dynamic_shared_size_bytes is 49152"),
    ]:
        with pytest.raises(EmulationError, match=message):
            idle(grid, block, (), shared_mem=shared_mem)
    kernel = toys().get_function(f"toy_{len(TOYS) - 1}")
    kernel.max_dynamic_shared_size_bytes = 100 << 10
    kernel((1,), (8,), (), shared_mem=100 << 10)
    kernel.max_dynamic_shared_size_bytes = 228 << 10
    with pytest.raises(EmulationError, match="no GPU gives a block more than 232448 bytes"):
        kernel((1,), (8,), ())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y[j] = z[j];", "z. was not declared|undeclared identifier .z"),
        ("y[j] = 0.5 * x[j];", "double"),  # slow on a GPU
        ("const int cut = n ? y[j] : 0; y[j] = float(cut);", "float"),
        ("x[j] = 0;", "lvalue|assign"),
        ("const float* p = x; y[j] = p[j];", "convert|viable"),
    ],
)
def test_what_does_not_compile(body, message):
    with pytest.raises(CompileException, match=message):
        RawModule(code=WORDS + kernel_source("toy", body)).compile()


def test_what_is_not_there():
    with pytest.raises(EmulationError, match=r'no extern "C" __global__ function top; there are \[\'toy_0\''):
        toys().get_function("top")
    with pytest.raises(ValueError, match="knows -D and --std"):
        RawModule(code="", options=("-O3",))
