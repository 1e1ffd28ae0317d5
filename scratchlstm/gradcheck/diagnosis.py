"""Say in words what is wrong with an array: which change to its formula turns the right values into those found.

`explain` tries common mistakes: a missing, extra or wrong factor, a sign, a term, a mean instead of a sum, an order. It
answers only if a change reproduces all the values found, and prefers the simplest change: on random data two different
formulas do not agree by chance. What it does not recognise, it does not explain.

`explain_step` finds the wrong equations, (7) to (21) of `gates.py`, of an LSTM step that it cannot look into. Each is
judged using the values the step itself computed before, so each mistake is found once.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from scratchlstm import gates

TOLERANCE = 1e-7
Arrays = Mapping[str, Any]  # name -> array
_Clauses = Iterator[tuple[float, str]]  # (cost, clause): the cheapest clause is the simplest

_SIZES = {"B": "the batch size", "T": "the number of steps", "E": "the number of features", "H": "the number of units"}
_MASKS = ("mask", "valid")
_DIGITS = {float(digit) for digit in range(2, 10)}
_SIMPLE = 1.5  # below this cost the search stops
_LOOKED_AT = 6  # number of elements that a search tries first


def explain(
    found: Any,
    right: Any,
    at_hand: Arrays,
    *,
    terms: Arrays | None = None,
    blocks: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> str | None:
    """How `found` differs from what is right, in one clause such as "you have c where c_prev belongs".

    Args:
        found, right: arrays of the same shape.
        at_hand: name -> array, or a size such as B: everything that could be used here, rightly or wrongly. A name may
            be an expression, "tanh(z_i)".
        terms: if right is a sum, its terms by name: then a mistake inside a term, or a missing term, is recognised,
            too.
        blocks: names of the blocks of columns, e.g. "ifgo".
        tolerance: the largest difference, relative to the largest value, attributed to rounding.

    Returns:
        the clause; None if found is right, not finite, or wrong in an unrecognised way.

    Raises:
        ValueError: found and right differ in shape.
    """
    found, right = np.asarray(found, float), np.asarray(right, float)
    if found.shape != right.shape:
        raise ValueError(f"found and right must have the same shape, not {found.shape} and {right.shape}")
    finite = np.all(np.isfinite(found)) and np.all(np.isfinite(right))
    if not finite or _close(found, right, tolerance):
        return None
    clauses = itertools.chain(
        _of_factors(found, right, at_hand, tolerance),
        _of_order(found, right, blocks, tolerance),
        _of_terms(found, right, at_hand, terms or {}, tolerance),
        _of_quantities(found, right, at_hand, tolerance),
    )
    return _simplest(clauses) or _simplest(_of_parts(found, right, at_hand, blocks, tolerance))


def _simplest(clauses: _Clauses) -> str | None:
    best: tuple[float, str | None] = np.inf, None
    for clause in clauses:
        best = min(best, clause, key=lambda each: each[0])
        if best[0] < _SIMPLE:
            break
    return best[1]


def _close(a: Any, b: Any, tolerance: float, scale: float = 0) -> bool:
    """Whether all differences are rounding, measured against the largest value."""
    scale = scale or max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    return bool(np.abs(a - b).max(initial=0) <= tolerance * scale)


# --- factors ----------------------------------------------------------------------------------------------------------


class Factor(NamedTuple):
    """A factor of a product: an array, something derivatives make of it, or a number."""

    text: str  #    "f", "1 - f", "f (1 - f)", "2"
    of: str  #      name of the array or size; "" for another number
    cost: float  #  1 for a name, more for less likely factors
    value: Any  #   flat, as long as the array it multiplies
    note: str = ""  # what to add if it is missing
    says: tuple[str, ...] = ()  # only for a number: the clause if it is extra, and if it is missing


class Ratio(NamedTuple):
    """found / right = sign · surplus / missing."""

    sign: int
    surplus: tuple[Factor, ...]
    missing: tuple[Factor, ...]

    @property
    def cost(self) -> float:
        """The lower, the simpler."""
        return 0.5 * (self.sign < 0) + sum(factor.cost for factor in self.surplus + self.missing)

    @property
    def arrays(self) -> list[list[Factor]]:
        """Surplus and missing factors, except the number."""
        return [[factor for factor in side if not factor.says] for side in (self.surplus, self.missing)]

    @property
    def number(self) -> list[str]:
        """The clause about the number, if there is one."""
        sides = enumerate((self.surplus, self.missing))
        return [factor.says[which] for which, side in sides for factor in side if factor.says]

    def text(self, divided: bool | None = False) -> str:
        """The clause.

        Args:
            divided: whether found is divided by the missing factors; None if the values do not tell.
        """
        surplus, missing = map(_product, self.arrays)
        more = self.number + ["the sign is wrong"] * (self.sign < 0)
        if not (surplus or missing):
            return ", and ".join(more)
        if missing and divided:
            clause = f"it is {f'multiplied by {surplus} and ' if surplus else ''}divided by {missing}"
        elif missing and surplus:
            clause = f"you have {surplus} where {missing} belongs"
        elif missing and divided is None and not more:
            clause = f"it is right once it is multiplied by {missing}"
        else:
            clause = f"the factor {missing} is missing" if missing else f"the factor {surplus} is one too many"
        if len(self.arrays[1]) == 1 and not divided:
            clause += self.arrays[1][0].note
        return ", and ".join([clause, *(each.partition(":")[0] for each in more)])


def _product(factors: Sequence[Factor]) -> str:
    """Such as "c²" or "dh o (1 - tanh_c²)"; "" without factors."""
    texts = []
    plain_first = sorted((factor.text for factor in factors), key=lambda text: (" " in text) - text.isdigit())
    for text, group in itertools.groupby(plain_first):
        times = len(list(group))
        enclosed = " " in text and (times > 1 or (len(factors) > 1 and " (1 - " not in text))
        texts.append((f"({text})" if enclosed else text) + ("", "²", "³", "⁴")[times - 1])
    return " ".join(texts)


def _like(array: Any, shape: tuple[int, ...]) -> Any:
    """The array broadcast to a shape, or None; one of rows and steps, such as a mask, is broadcast to all columns."""
    array = np.asarray(array, float)
    if array.ndim and array.ndim < len(shape) and array.shape == shape[: array.ndim]:
        array = array.reshape(array.shape + (1,) * (len(shape) - array.ndim))
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        return None


def _factors(at_hand: Arrays, shape: tuple[int, ...]) -> Iterator[Factor]:
    for name, array in at_hand.items():
        a = _like(array, shape)
        if a is None or not np.all(np.isfinite(a)):
            continue
        a = a.ravel()
        if name in _SIZES:
            yield _number(a[0], shape, name)
            continue
        binary = np.ndim(array) and ((a == 0) | (a == 1)).all()
        if binary and name not in _MASKS:  # labels: different formulas agree where they are 0 or 1
            continue
        yield Factor(name, name, 1, a)
        gate, bounded = np.all((a > 0) & (a < 1)), np.all(np.abs(a) < 1) and name[0] not in "dxWUwb"
        if binary or np.ndim(array) == 0:
            continue
        of_sigma, of_tanh = f"{name} (1 - {name})", f"1 - {name}²"
        as_in = [f" (as in {of_sigma}, the derivative of σ)", f" (as in {of_tanh}, the derivative of tanh)"]
        if bounded:
            yield Factor(f"1 - {name}", name, 1.25, 1 - a, as_in[0 if gate else 1])
            yield Factor(f"1 + {name}", name, 1.75, 1 + a, as_in[1])
        if bounded or name[0] == "z":  # the slope is computed from z by mistake
            yield Factor(of_sigma, name, 1.1 if gate else 1.4, a * (1 - a), ", the derivative of σ")
        if bounded or name[0] in "zc":  # or from c, instead of tanh(c)
            yield Factor(of_tanh, name, 1.1 if bounded and not gate else 1.4, 1 - a * a, ", the derivative of tanh")


def _number(value: float, shape: tuple[int, ...], size: str = "") -> Factor:
    """A number, or an available size, as a factor of an array of this shape."""
    text = f"{value:.0f}" if value == round(value) else f"{value:.4g}"
    says = [f"it is multiplied by {text}", f"it is divided by {text}"]
    if size:
        says = [f"{each}, {_SIZES[size]}" for each in says]
        if value not in shape:  # that axis is summed
            says = [says[0] + ": no sum belongs there", says[1] + ": no mean belongs there"]
    elif value != round(value):
        says = [f"it is {_decimal(each)} times the right value" for each in (value, 1 / value)]
    cost = 1 if size else 1.1 if value in _DIGITS else 1.2
    return Factor(text, size, cost, np.full(int(np.prod(shape)), value), says=tuple(says))


def _decimal(value: float) -> str:
    """Such as "0.75", "2/3" or "0.7312"."""
    text, fraction = f"{value:.4g}", Fraction(value).limit_denominator(9)
    return str(fraction) if abs(fraction - value) < 1e-6 * value < abs(float(text) - value) else text


def _multiple(found: Any, right: Any, tolerance: float, scale: float) -> set[float]:
    """The number that right is multiplied or divided by everywhere to give found; empty if there is none."""
    times = abs(float(found @ right)) / (float(right @ right) or 1)
    if not times or not _close(np.abs(found), times * np.abs(right), tolerance, scale):
        return set()
    times = max(times, 1 / times)
    return {float(round(times)) if abs(times - round(times)) <= tolerance * times else times}


def ratios(
    found: Any, right: Any | None, at_hand: Arrays, tolerance: float = TOLERANCE, scale: float = 0
) -> list[Ratio]:
    """The simplest products of at most four factors with found = right · surplus / missing; [] if there are none.

    Returns several if they are equally simple. Logarithms turn the product into a sum, see `_adding_up`; candidates
    that fit a few elements are then tested on all of them.

    Args:
        found, right, at_hand, tolerance: see `explain`; if right is None, found = surplus.
        scale: what differences are measured against; 0 for the largest value.
    """
    shape, divides = np.shape(found), right is not None
    found, right = np.ravel(found), np.ravel(np.ones_like(found) if right is None else right)
    size = np.minimum(*(np.abs(each) / (np.abs(each).max(initial=0) or 1) for each in (found, right)))
    large = np.argsort(-size)[:_LOOKED_AT]  # least affected by rounding
    large = large[size[large] > 0.1 * size.max(initial=0)]
    if not large.size:
        return []
    # a few numbers match many products: the fewer there are, the simpler the product must be
    most = {1: 1, 2: 2}.get(int(np.count_nonzero(size)), 4)
    multiple = _multiple(found, right, tolerance, scale) if divides and most > 1 else set()
    factors = [*_factors(at_hand, shape), *(_number(value, shape) for value in sorted(_DIGITS | multiple))]
    factors = [factor for factor in factors if factor.value[large].all()]

    logs = np.log(np.abs([factor.value[large] for factor in factors]))
    rows = np.concatenate([np.zeros((1, large.size)), logs, *([-logs] if divides else [])])
    wanted = np.log(np.abs(found[large])) - np.log(np.abs(right[large]))
    fours = _adding_up(rows, wanted, min(2 * tolerance / size[large].min(), 1e-3))
    numbers = np.array([0] + 2 * [bool(factor.says) for factor in factors])
    fours = fours[numbers[fours].sum(axis=1) < 2]
    costs = np.array([0] + 2 * [factor.cost for factor in factors])[fours].sum(axis=1)

    simplest: dict[tuple[int, ...], Ratio] = {}
    cheapest = np.inf
    for four, cost in sorted(zip(map(sorted, fours.tolist()), costs, strict=True), key=lambda each: each[1]):
        if cost > cheapest + 1e-6:
            break
        key = tuple(row for row in four if row)
        surplus = tuple(factors[row - 1] for row in key if row <= len(factors))
        missing = tuple(factors[row - 1 - len(factors)] for row in key if row > len(factors))
        if len(key) <= most and (sign := _sign(found, missing, right, surplus, tolerance, scale)):
            simplest.setdefault(key, Ratio(sign, surplus, missing))
            cheapest = cost
    return [simplest[key] for key in sorted(simplest, key=lambda key: (len({*key}), key))]


def _adding_up(rows: Any, wanted: Any, window: float) -> Any:
    """(n, 4): all combinations of four rows that add up to `wanted`, to within `window`; the first row is 0.

    Two rows make a pair, and we want two pairs. To avoid trying every pair with every other, each becomes one number,
    by a random projection: the number of its partner is then known, and looked up in the sorted list.
    """
    pairs = np.stack(np.triu_indices(len(rows)), axis=1)
    projection = np.random.default_rng(0).normal(size=wanted.size) / wanted.size
    pairs = pairs[np.argsort((rows @ projection)[pairs].sum(axis=1))]
    sums = rows[pairs].sum(axis=1)
    numbers = sums @ projection
    start, stop = (np.searchsorted(numbers, wanted @ projection - numbers + side) for side in (-window, window))
    count = np.maximum(stop - start, 0)
    one = np.repeat(np.arange(len(pairs)), count)
    other = np.arange(len(one)) - np.repeat(np.cumsum(count) - count - start, count)  # start, start + 1, ..., stop - 1
    keep = (one <= other) & (np.abs(sums[one] + sums[other] - wanted).max(axis=1, initial=0) <= window)
    return np.concatenate([pairs[one[keep]], pairs[other[keep]]], axis=1)


def _sign(
    found: Any, missing: Sequence[Factor], right: Any, surplus: Sequence[Factor], tolerance: float, scale: float
) -> int:
    """The sign with which found · missing = right · surplus, without dividing by possible zeros; 0 if neither fits."""
    left = found * np.prod([factor.value for factor in missing], axis=0)
    other = right * np.prod([factor.value for factor in surplus], axis=0)
    return next((sign for sign in (1, -1) if _close(left, sign * other, tolerance, scale)), 0)


def _of_factors(found: Any, right: Any, at_hand: Arrays, tolerance: float) -> _Clauses:
    """All zero, or right except for factors."""
    if not found.any():
        yield 0, "it is 0 everywhere"
        return
    # "you have dc_next where dc belongs" says nothing if dc is what is asked for
    others = {name: a for name, a in at_hand.items() if np.shape(a) != right.shape or not _close(a, right, tolerance)}
    for ratio in ratios(found, right, others, tolerance)[:1]:
        yield ratio.cost, _in_words(ratio, found, right, others, tolerance)


def _in_words(ratio: Ratio, found: Any, right: Any, at_hand: Arrays, tolerance: float) -> str:
    """The clause. right = found · f, either because f is missing, or because found is divided by it."""
    missing = ratio.arrays[1]
    if not missing or not all(factor.value.all() for factor in missing) or ratios(found, None, at_hand, tolerance):
        return ratio.text()
    return ratio.text(divided=True if ratios(right, None, at_hand, tolerance) else None)


# --- terms ------------------------------------------------------------------------------------------------------------


def _of_terms(found: Any, right: Any, at_hand: Arrays, terms: Arrays, tolerance: float) -> _Clauses:
    """Right except for a term."""
    scale = max(np.max(np.abs(found)), np.max(np.abs(right)))
    arrays = {name: array for name, array in at_hand.items() if name not in _SIZES}
    for term in ratios(found - right, None, arrays, tolerance, scale)[:1]:
        cost, text = 0.5 + sum(factor.cost for factor in term.surplus), _product(term.surplus) or "1"
        if len(term.arrays[0]) > 3:
            continue  # too long to be helpful
        if term.sign > 0 and terms:
            yield cost, f"the term {text} is one too many"
        else:
            yield cost, f"it is right once {text} is {'subtracted' if term.sign > 0 else 'added'}"
    values = {name: np.broadcast_to(np.asarray(term, float), right.shape) for name, term in terms.items()}
    for count in range(1, len(values) if len(values) <= 8 else 2):
        for names in itertools.combinations(values, count):
            if _close(found, right - sum(values[name] for name in names), tolerance):
                yield 2 * count - 1, f"the {_counted('term', names)} {'are' if count > 1 else 'is'} missing"
    for name, value in values.items():
        if _close(found, value, tolerance) and len(values) > 1:
            yield 2.5, f"only the term {name} is there"
        instead = found - (right - value)
        if _close(instead, -value, tolerance, scale):
            yield 1, f"the term {name} has the wrong sign"
        elif instead.any():
            for ratio in ratios(instead, value, at_hand, tolerance, scale)[:1]:
                what = _in_words(ratio, instead, value, at_hand, tolerance)
                yield 1 + ratio.cost, _inside_of(f"the term {name}", what)


def _inside_of(what: str, clause: str) -> str:
    return what + clause.removeprefix("it") if clause.startswith("it is ") else f"in {what}, {clause}"


def _listed(names: Any) -> str:
    *most, end = map(str, names)
    return f"{', '.join(most)} and {end}" if most else end


# --- order ------------------------------------------------------------------------------------------------------------


def _axes(ndim: int) -> list[str]:
    return ["row", "step", "column"] if ndim == 3 else ["row", "column"] if ndim == 2 else ["element"] * ndim


def _of_order(found: Any, right: Any, blocks: Sequence[str], tolerance: float) -> _Clauses:
    """The right values in another order."""

    def is_now(other: Any, where: Any = ...) -> bool:
        return _close(found[where], other, tolerance)

    if right.ndim == 2 and right.shape[0] == right.shape[1] and is_now(right.T):
        yield 1, "it is transposed"
    for axis, what in enumerate(_axes(right.ndim)):
        if is_now(np.flip(right, axis)):
            yield 1, f"the {what}s are in reverse order"
    if right.ndim == 3 and right.shape[1] > 2 and not _close(right[:, 1:], right[:, :-1], tolerance):
        if is_now(right[:, :-1], np.s_[:, 1:]):
            yield 1, "each step has the value of the previous step"
        if is_now(right[:, 1:], np.s_[:, :-1]):
            yield 1, "each step has the value of the next step"
    if blocks and right.ndim and right.shape[-1] % len(blocks) == 0:
        theirs, ours = (np.split(each, len(blocks), axis=-1) for each in (found, right))
        held = [
            next((name for name, b in zip(blocks, ours, strict=True) if _close(a, b, tolerance)), "") for a in theirs
        ]
        if all(held) and held != [*blocks]:
            yield 1, _moved(held, blocks)
    if right.size > 2 and _close(np.sort(found, axis=None), np.sort(right, axis=None), tolerance):
        yield 5, "the values are right, but in another order"


def _moved(held: Sequence[str], blocks: Sequence[str]) -> str:
    """The clause if the blocks hold each other's values."""
    moved = [name for name, other in zip(blocks, held, strict=True) if name != other]
    if len(moved) == 2 and sorted(held) == sorted(blocks):
        return f"the blocks of {_listed(moved)} are swapped"
    return f"the blocks are {' '.join(held)}, not {' '.join(blocks)}"


# --- other quantities -------------------------------------------------------------------------------------------------


def _quantities(at_hand: Arrays, shape: tuple[int, ...]) -> Iterator[tuple[float, str, Any]]:
    """(cost, text, array): available arrays, their sums, means and matrix products, if they have the shape."""
    arrays = {name: np.asarray(array, float) for name, array in at_hand.items() if np.ndim(array)}
    either: dict[str, Any] = {}
    for name, array in arrays.items():
        yield 4, name, array
        if array.ndim == 2:
            either |= {name: array, f"{name}.T": array.T}
            yield 4.1, f"{name}.T", array.T
        if array.ndim > len(shape):
            for axes in itertools.combinations(range(array.ndim), array.ndim - len(shape)):
                over = f"ax{'i' if len(axes) == 1 else 'e'}s {_listed(axes)}"
                yield 4.2, f"the sum of {name} over {over}", array.sum(axes)
                yield 4.3, f"the mean of {name} over {over}", array.mean(axes)
    for (name, a), (other, b) in itertools.permutations(either.items(), 2):
        if (a.shape[0], b.shape[1]) == shape and a.shape[1] == b.shape[0]:
            yield 4.4, f"{name} @ {other}", a @ b


def _of_quantities(found: Any, right: Any, at_hand: Arrays, tolerance: float) -> _Clauses:
    """Something other than what was asked for."""
    if found.size < 2 or not found.any():
        return
    which = [each for each in _quantities(at_hand, right.shape) if each[2].shape == right.shape]
    belongs = next((text for _, text, a in which if text not in at_hand and _close(right, a, tolerance)), "")
    for cost, text, array in which:
        for sign in "", "-":
            if _close(found, -array if sign else array, tolerance):
                yield cost, f"you have {sign}{text} where {belongs} belongs" if belongs else f"this is {sign}{text}"


# --- parts ------------------------------------------------------------------------------------------------------------


def _of_parts(found: Any, right: Any, at_hand: Arrays, blocks: Sequence[str], tolerance: float) -> _Clauses:
    """Right in some parts; what the other parts have in common."""
    differs = np.abs(found - right) > tolerance * max(np.max(np.abs(found)), np.max(np.abs(right)))
    for cost, where, part in _parts(differs, at_hand, blocks):
        inside = {name: array for name, a in at_hand.items() if (array := _like(a, right.shape)) is not None}
        given = {name: a if np.ndim(at_hand[name]) == 0 else a[part] for name, a in inside.items()}
        of_part = found[part], right[part], given
        what = _simplest(itertools.chain(_of_factors(*of_part, tolerance), _of_terms(*of_part, {}, tolerance)))
        yield cost if what else cost + 5, f"{where}: {what}" if what else where


def _parts(differs: Any, at_hand: Arrays, blocks: Sequence[str]) -> Iterator[tuple[float, str, Any]]:
    """(cost, text, which elements): the parts that contain all wrong elements."""
    for name, array in at_hand.items():
        mask = _like(array, differs.shape)
        if mask is not None and ((mask == 0) | (mask == 1)).all():
            for value in 0, 1:
                if (mask != value).any() and not differs[mask != value].any():
                    if name not in _MASKS:
                        return  # says nothing for labels, or the rows that have them
                    yield 1, f"right where {name} is {1 - value}, wrong where it is {value}", mask == value
    if blocks and differs.ndim and differs.shape[-1] % len(blocks) == 0:
        by_block = differs.reshape(*differs.shape[:-1], len(blocks), -1)
        wrong = by_block.any(axis=(*range(differs.ndim - 1), -1))
        if not wrong.all():
            names = [[name for name, bad in zip(blocks, wrong, strict=True) if bad == value] for value in (False, True)]
            part = np.broadcast_to(np.repeat(wrong, by_block.shape[-1]), differs.shape)
            yield 2, f"right in the {_counted('block', names[0])}, wrong in the {_counted('block', names[1])}", part
    for axis, what in enumerate(_axes(differs.ndim)):
        others = tuple(other for other in range(differs.ndim) if other != axis)
        wrong = differs.any(axis=others)
        if not wrong.all() and len(wrong) <= 8:
            numbers = [np.flatnonzero(wrong == value) for value in (False, True)]
            part = np.broadcast_to(np.expand_dims(wrong, others), differs.shape)
            yield 3 + axis, f"right in {_counted(what, numbers[0])}, wrong in {_counted(what, numbers[1])}", part


def _counted(what: str, names: Any) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {_listed(names)}"


# --- a whole step -----------------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """One wrong equation.

    Attributes:
        equation: its number, "(14)"; "(9) or (13)" if the values do not tell which of the two, "(8) to (15)" if they
            tell even less.
        name: what is wrong, "dz_f".
        text: how, in the words of `explain`; "" if not recognised.
    """

    equation: str
    name: str
    text: str


# gate -> where its gradient comes from, its factor, and the numbers of both equations
_GATES = {
    "i": ("dc", "g", 9, 13),
    "f": ("dc", "c_prev", 10, 14),
    "g": ("dc", "i", 11, 15),
    "o": ("dh", "tanh_c", 7, 16),
}
NUMBERS = {"dc": 8, "dc_prev": 12, "dx": 17, "dh_prev": 18, "dW": 19, "dU": 20, "db": 21}


def random_step(seed: int = 0, N: int = 3, E: int = 2, H: int = 4) -> dict[str, np.ndarray]:
    """An LSTM step on random numbers, by name: its inputs, the results of (1) to (6), and dh and dc_next."""
    rng = np.random.default_rng(seed)
    return random_forward(rng, N, E, H) | {name: rng.normal(size=(N, H)) for name in ("dh", "dc_next")}


def random_forward(rng: np.random.Generator, N: int, E: int, H: int) -> dict[str, np.ndarray]:
    """The inputs of a step of N samples, and the results of (1) to (6)."""
    shapes = {"x": (N, E), "h_prev": (N, H), "c_prev": (N, H), "W": (E, 4 * H), "U": (H, 4 * H), "b": (4 * H,)}
    given: dict[str, Any] = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    h, c, cache = gates.lstm_step_forward(*given.values())
    return given | cache._asdict() | {"c": c, "h": h}


def explain_step(
    backward: Callable[..., Any], known: Arrays | None = None, tolerance: float = TOLERANCE
) -> list[Finding]:
    """The wrong equations, (7) to (21), of a function used in place of `gates.lstm_step_backward`.

    It is run for each sample alone, which reveals what it computes inside, and for all samples together.

    Args:
        backward: takes (dh, dc_next, cache, W, U) and returns dx, dh_prev, dc_prev, dW, dU, db, in this order or by
            name, in their shapes.
        known: a step like that of `random_step`, the default.
        tolerance: see `explain`.
    """
    known = random_step() if known is None else known
    names = gates.StepGradients._fields[:6]

    def run(rows: slice) -> dict[str, Any]:
        of_rows = {name: np.array(array if name in ("W", "U", "b") else array[rows]) for name, array in known.items()}
        came = backward(of_rows["dh"], of_rows["dc_next"], _cache(of_rows), of_rows["W"], of_rows["U"])
        return dict(came) if isinstance(came, Mapping) else dict(zip(names, came, strict=False))

    alone = [run(slice(n, n + 1)) for n in range(len(known["dh"]))]
    found = {name: np.stack([each[name] for each in alone]) for name in names}
    found |= {name: np.concatenate(found[name]) for name in ("dx", "dh_prev", "dc_prev")}
    findings = wrong_equations(found, known, tolerance)

    together, only_there = run(slice(None)), "right for one sample, wrong for several"
    expected = {name: each.sum(axis=0) if name in ("dW", "dU", "db") else each for name, each in found.items()}
    wrong = [name for name in names if not _close(together[name], expected[name], tolerance)]
    if {"dx", "dh_prev"} <= {*wrong}:
        of_batch = {explain(together[name], expected[name], {"B": len(alone)}) for name in ("dx", "dh_prev")}
        what = of_batch.pop() if len(of_batch) == 1 else None
        return [*findings, Finding("(7) to (16)", "dz", only_there + (f": {what}" if what else ""))]
    for name in wrong:
        if name not in [finding.name for finding in findings]:
            terms = {f"of sample {n}": each[name] for n, each in enumerate(alone)} if name in ("dW", "dU", "db") else {}
            text = explain(together[name], expected[name], {"B": len(alone)}, terms=terms, tolerance=tolerance)
            findings.append(Finding(f"({NUMBERS[name]})", name, text or only_there))
    return findings


def wrong_equations(found: Arrays, known: Arrays, tolerance: float = TOLERANCE) -> list[Finding]:
    """The wrong equations, (7) to (21), judged by the gradients of N separate samples.

    What a step computes inside shows in its results: db of one sample is dz, row k of dW is x_k dz; dc is dc_prev / f,
    and dz_i / (g i (1 - i)), and so on. The value most of them agree on is the one the step computed.

    Args:
        found: dx (N, E), dW (N, E, 4H), dU (N, H, 4H) and, if known, dh_prev and dc_prev (N, H), db (N, 4H).
        known: the step, like that of `random_step`.
        tolerance: see `explain`.
    """
    findings: list[Finding] = []

    def judge(
        name: str, given: Any, wanted: Any, at_hand: Arrays, blocks: str = "", terms: Arrays | None = None
    ) -> None:
        if not _close(given, wanted, tolerance):
            of_gate = name.startswith("dz_")
            equation = _which(name[-1], given, wanted, at_hand, tolerance) if of_gate else f"({NUMBERS[name]})"
            text = explain(given, wanted, at_hand, terms=terms, blocks=blocks, tolerance=tolerance) or ""
            findings.append(Finding(equation, name, text))

    right = right_step(known)

    def from_dz(dz: Any) -> dict[str, Any]:
        """The results of (17) to (21) from dz, for each sample, if there is something to compare them with."""
        of_inputs = {"dx": dz @ known["W"].T, "dh_prev": dz @ known["U"].T, "db": dz}
        of_weights = {f"d{name}": known[a][:, :, None] * dz[:, None] for a, name in (("x", "W"), ("h_prev", "U"))}
        return {name: value for name, value in (of_inputs | of_weights).items() if name in found}

    guesses = [right.dz, *([found["db"]] if "db" in found else [])]
    for a, d_weights in ((known["x"], found["dW"]), (known["h_prev"], found["dU"])):
        guesses.append(_divided(np.einsum("nk,nkz->nz", a, d_weights), np.sum(a * a, axis=1, keepdims=True)))
    dz, _ = _agreed(guesses, from_dz, found, tolerance)
    if dz is None:
        return [Finding("(7) to (21)", "dz", "")]

    # (8) to (16), judged by dz, whose blocks may be in another order
    of_right = right.dc * known["f"]
    dc_prev = found.get("dc_prev", of_right)
    blocks = {"ifgo": _by_gate(dz)}
    agreed = {"ifgo": _agreed_dc(dc_prev, blocks["ifgo"], right.dc, known, tolerance)}
    swapped = _swapped(found, dz, known, tolerance) if agreed["ifgo"][1] < 5 else None
    if agreed["ifgo"][1] < 4:  # two blocks are wrong: another order may fit better
        blocks |= {"".join(order): _by_gate(dz, order) for order in itertools.permutations("ifgo")}
        agreed = {order: _agreed_dc(dc_prev, of, right.dc, known, tolerance) for order, of in blocks.items()}
    order = max(agreed, key=lambda order: agreed[order][1])
    if order != "ifgo" and not swapped:
        findings.append(Finding("(13) to (16)", "dz", _moved(order, "ifgo")))
    seen, (dc, _) = blocks[order], agreed[order]
    hand = {name: known[name] for name in _AT_HAND}
    if swapped:
        text = f"{swapped} are swapped everywhere, as if the cache was unpacked in another order"
        findings.append(Finding("(7) to (16)", "dz", text))
        expected = {}
    elif dc is None:
        findings.append(Finding("(8) to (15)", "dc", ""))
        expected = {"o": _of_gate("o", known)}
    else:
        terms = {"dc_next": known["dc_next"], "dh o (1 - tanh_c²)": right.dc - known["dc_next"]}
        if "dc_prev" in found and dc is not right.dc and _close(dc_prev, of_right, tolerance):
            # (12) shows that (8) is right, so the three that use it are wrong
            named = [f"you have {name} where dc belongs" for name in hand if _close(dc, hand[name], tolerance)]
            text = explain(dc, right.dc, hand, terms=terms, tolerance=tolerance) or ""
            text = named[0] if named else text and _inside_of("dc", text)
            findings.append(Finding("(9) to (11)", "di, df, dg", text))
        else:
            judge("dc", dc, right.dc, hand, terms=terms)
            if "dc_prev" in found:
                judge("dc_prev", dc_prev, dc * known["f"], hand | {"dc": dc})
        hand["dc"] = dc
        expected = {gate: _of_gate(gate, hand) for gate in "ifgo"}
        hand |= {f"d{gate}": hand[via] * hand[times] for gate, (via, times, *_) in _GATES.items()}
    for gate, wanted in expected.items():
        same = [other for other in expected if other != gate and _close(seen[gate], seen[other], tolerance)]
        if same and seen[gate].any() and not _close(seen[gate], wanted, tolerance):
            findings.append(Finding("(13) to (16)", "dz", f"the block of {gate} holds that of {same[0]}"))
        else:
            judge(f"dz_{gate}", seen[gate], wanted, hand)

    # (17) to (21), judged by dz
    rows = hand | {"x": known["x"], "dz": dz} | {f"dz_{gate}": block for gate, block in blocks["ifgo"].items()}
    weights = {name: known[name] for name in "WU"}
    weights |= {f"{name}_{gate}": block for name in "WU" for gate, block in _by_gate(known[name]).items()}
    for name, wanted in from_dz(dz).items():
        # for a gradient of weights (N, E, 4H), the first sample is enough
        at_hand = {key: row[:1] if wanted.ndim == 3 else row for key, row in rows.items()} | weights
        given, wanted = (found[name][0], wanted[0]) if wanted.ndim == 3 else (found[name], wanted)
        judge(name, given, wanted, at_hand, "" if name in ("dx", "dh_prev") else "ifgo")
    return sorted(findings, key=lambda finding: int(finding.equation[1:].split(")")[0]))


_AT_HAND = ["dh", "dc_next", "i", "f", "g", "o", "c", "c_prev", "tanh_c", "h", "h_prev"]


def _cache(known: Arrays) -> gates.StepCache:
    return gates.StepCache(*(known[name] for name in gates.StepCache._fields))


def _by_gate(array: Any, order: Sequence[str] = "ifgo") -> dict[str, Any]:
    """The four blocks of columns."""
    return dict(zip(order, np.split(array, 4, axis=1), strict=True))


def _divided(a: Any, b: Any) -> Any:
    """The ratio of two arrays; 0 where the divisor is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def _of_gate(gate: str, known: Arrays) -> Any:
    """dz of a gate from dc, or of o from dh."""
    via, times, *_ = _GATES[gate]
    return known[via] * known[times] * _slope(gate, known)


def _slope(gate: str, known: Arrays) -> Any:
    value = known[gate]
    return 1 - value**2 if gate in ("g", "tanh_c") else value * (1 - value)


class _Inside(NamedTuple):
    """What a correct step computes on the way, (8) and (13) to (16)."""

    dc: Any
    dz: Any


def right_step(known: Arrays) -> _Inside:
    """Written out here, because the step being judged may be that of `gates.py`, edited to see what happens."""
    dc = known["dc_next"] + known["dh"] * known["o"] * _slope("tanh_c", known)
    return _Inside(dc, np.concatenate([_of_gate(gate, {**known, "dc": dc}) for gate in "ifgo"], axis=1))


def _swapped(found: Arrays, dz: Any, known: Arrays, tolerance: float) -> str | None:
    """The two names, such as "i and f", that explain everything found if each has the other's values."""
    for a, b in itertools.combinations(["i", "f", "g", "o", "c_prev", "tanh_c"], 2):
        other = {**known, a: known[b], b: known[a]}
        inside = right_step(other)
        dc_prev = inside.dc * other["f"]
        if _close(dz, inside.dz, tolerance) and _close(found.get("dc_prev", dc_prev), dc_prev, tolerance):
            return f"{a} and {b}"
    return None


def _agreed_dc(dc_prev: Any, dz: Arrays, right: Any, known: Arrays, tolerance: float) -> tuple[Any, int]:
    """The dc that most of dc_prev, dz_i, dz_f and dz_g agree on; and how many values fit, including dz_o."""

    def follows(dc: Any) -> dict[str, Any]:
        return {"c": dc * known["f"]} | {gate: _of_gate(gate, {**known, "dc": dc}) for gate in "ifg"}

    seen = {**dz, "c": dc_prev}
    guesses = [right, *(_divided(seen[name], of_one) for name, of_one in follows(np.ones_like(right)).items())]
    dc, count = _agreed(guesses, follows, seen, tolerance)
    return dc, count + _close(dz["o"], _of_gate("o", known), tolerance)


def _agreed(
    guesses: Sequence[Any], follows: Callable[[Any], Arrays], seen: Arrays, tolerance: float
) -> tuple[Any, int]:
    """The guess that explains most of what was seen, and how much.

    The first guess is the right value. Any other must explain more than the one value it was derived from, otherwise
    the result is None.
    """

    def count(guess: Any) -> int:
        return sum(_close(seen[name], value, tolerance) for name, value in follows(guess).items())

    best = max(guesses, key=count)
    return best if count(best) > (best is not guesses[0]) else None, count(best)


def _which(gate: str, found: Any, right: Any, at_hand: Arrays, tolerance: float) -> str:
    """Which of a gate's two equations lacks something; or either, if a wrong name in the second would explain it."""
    via, times, first, second = _GATES[gate]
    numbers = {second for a in at_hand.values() if _close(found, a * _slope(gate, at_hand), tolerance)}
    for ratio in ratios(found, right, at_hand, tolerance):
        missing = {factor.of for factor in ratio.missing}
        numbers |= {first} if missing and missing <= {via, times} else set()
        numbers |= {second} if missing and missing <= {gate, f"d{gate}"} else set()
    return " or ".join(f"({number})" for number in sorted(numbers or {first, second}))
