"""How fast the recurrence could be on a GPU at best: a floor under the time of all steps forward, to compare with.

A step needs the h of the one before it, so the steps cannot overlap, and a step cannot be shorter than the longest
chain of instructions in it of which each waits for the one before. One batch row is with one multiprocessor, which also
has to do all of the row's 4 H² multiplications. Nothing else is counted, neither launch nor memory beyond the
multiprocessor: a kernel cannot reach the floor, but may be near it.
"""

# Clock cycles until the result of an instruction can be used. Arithmetic and shared memory as in table 3 of
# doi:10.1016/j.ultsonch.2023.106546, which has 4 and 20 from Volta to Hopper; the other two are assumed.
ARITHMETIC = 4  # a multiplication and an addition
SHARED = 20  # a number of shared memory, which another thread wrote
SPECIAL = 18  # 2^x, 1/x
BARRIER = 20  # until all of a block know that all have come

TANH = 2 * SPECIAL + 2 * ARITHMETIC  # 1 - 2 / (2^(x 2 log2 e) + 1)

# one step, in the order of gates.py
CHAIN = {
    "h of the step before, from shared memory": SHARED,
    "the last multiplication, and the addition of z's parts": 2 * ARITHMETIC,
    "(1) to (4), all gates at once": TANH,
    "the gates of a unit, brought together": SHARED,
    "(5)": 2 * ARITHMETIC,
    "(6)": TANH + ARITHMETIC,
    "h to the other threads": BARRIER,
}


def lanes(compute_capability):
    """Multiplications in float32 that a multiprocessor begins in one cycle; "90" is an H100."""
    return 64 if compute_capability in ("70", "72", "75", "80") else 128


def step_cycles(H, rows, lanes):
    """One step of a multiprocessor with so many batch rows: the chain, and the products, which come before its end."""
    return sum(CHAIN.values()) + rows * 4 * H * H / lanes


def forward_seconds(T, B, H, multiprocessors, lanes, hertz):
    """T steps of B rows, in float32, at the GPU's highest clock."""
    rows = -(-B // multiprocessors)
    return T * step_cycles(H, rows, lanes) / hertz
