"""Sequences, and what is around the cell: other ways to be right and to be wrong than those of the question modules."""

import itertools
import textwrap

import numpy as np
import pytest

from scratchlstm import gates
from scratchlstm.exercises.checking import find, judge
from scratchlstm.exercises.exercise import _OPEN, EXERCISES

NAMES = ("loop", "every_step", "masks", "truncated", "embedding", "dense")
OURS = [exercise for exercise in EXERCISES if exercise.name in NAMES]
ONE_STEP = "Right for one step, wrong for several"


def verdict(name, source):
    """Of a function written with numpy and the functions of `gates`."""
    scope = {"np": np, **vars(gates)}
    exec(textwrap.dedent(source), scope)
    return judge(find(name), name, scope[name])


RIGHT = {
    "filled from the end": """
        def through_time(dh, dc, hs, caches, W, U):
            T = len(caches)
            dz = np.zeros((dh.shape[0], T, W.shape[1]))
            t = T - 1
            while t >= 0:
                step = lstm_step_backward(dh, dc, caches[t], W, U)
                dz[:, t] = step.dz
                dh, dc = step.dh_prev, step.dc_prev
                t -= 1
            return dz, dh, dc
        """,
    "recursion": """
        def through_time(dh, dc, hs, caches, W, U):
            step = lstm_step_backward(dh, dc, caches[-1], W, U)
            last = step.dz[:, None]
            if len(caches) == 1:
                return last, step.dh_prev, step.dc_prev
            dz, dh0, dc0 = through_time(step.dh_prev, step.dc_prev, hs, caches[:-1], W, U)
            return np.concatenate([dz, last], axis=1), dh0, dc0
        """,
    "put in front": """
        def through_time(dh, dc, hs, caches, W, U):
            dzs = []
            for cache in caches[::-1]:
                _, dh, dc, _, _, _, _, dz = lstm_step_backward(dh, dc, cache, W, U)
                dzs.insert(0, dz)
            return [np.stack(dzs).swapaxes(0, 1), dh, dc]
        """,
    "einsum over batch and time": """
        def sums_over_time(x, hs, h0, dz):
            h_prev = np.concatenate([h0[:, None], hs[:, :-1]], axis=1)
            return np.einsum("nte,ntz->ez", x, dz), np.einsum("nth,ntz->hz", h_prev, dz), dz.sum((0, 1))
        """,
    "one product of all steps": """
        def sums_over_time(x, hs, h0, dz):
            h_prev = np.roll(hs, 1, axis=1)
            h_prev[:, 0] = h0
            flat = dz.reshape(-1, dz.shape[2])
            dW = x.reshape(-1, x.shape[2]).T @ flat
            return dW, h_prev.reshape(-1, hs.shape[2]).T @ flat, np.ones(len(flat)) @ flat
        """,
    "sample by sample, backward": """
        def sums_over_time(x, hs, h0, dz):
            dW, dU, db = 0, 0, 0
            for n in range(len(x)):
                for t in reversed(range(x.shape[1])):
                    dW += np.outer(x[n, t], dz[n, t])
                    dU += np.outer(hs[n, t - 1] if t else h0[n], dz[n, t])
                    db += dz[n, t]
            return dW, dU, db
        """,
    "added to a copy of dhs": """
        def every_step(dhs, dc_last, hs, caches, W, U):
            T, dh, dc = len(caches), dhs.copy(), dc_last
            steps = [None] * T
            for t in range(T - 1, -1, -1):
                steps[t] = step = lstm_step_backward(dh[:, t], dc, caches[t], W, U)
                dc = step.dc_prev
                if t:
                    dh[:, t - 1] += step.dh_prev
            dx = np.stack([step.dx for step in steps], axis=1)
            return dx, *(sum(getattr(each, name) for each in steps) for name in ("dW", "dU", "db")), step.dh_prev, dc
        """,
    "None for no step after": """
        def every_step(dhs, dc_last, hs, caches, W, U):
            dx, after = np.empty((*dhs.shape[:2], W.shape[0])), None
            for t in range(len(caches))[::-1]:
                if after is None:
                    after = lstm_step_backward(dhs[:, t], dc_last, caches[t], W, U)
                    dW, dU, db = after.dW, after.dU, after.db
                else:
                    after = lstm_step_backward(after.dh_prev + dhs[:, t], after.dc_prev, caches[t], W, U)
                    dW, dU, db = dW + after.dW, dU + after.dU, db + after.db
                dx[:, t] = after.dx
            return dx, dW, dU, db, after.dh_prev, after.dc_prev
        """,
    "0 and 1 multiplied": """
        def masked_forward(x, mask, h, c, W, U, b):
            hs = np.zeros((*x.shape[:2], h.shape[1]))
            for t in range(x.shape[1]):
                m = mask[:, [t]].astype(float)
                h_t, c_t, _ = lstm_step_forward(x[:, t], h, c, W, U, b)
                h, c = m * h_t + (1 - m) * h, m * c_t + (1 - m) * c
                hs[:, t] = h
            return hs, c
        """,
    "rows picked": """
        def masked_forward(x, mask, h0, c0, W, U, b):
            h, c, hs = h0.copy(), c0.copy(), []
            for t in range(x.shape[1]):
                rows = np.flatnonzero(mask[:, t])
                h[rows], c[rows], _ = lstm_step_forward(x[rows, t], h[rows], c[rows], W, U, b)
                hs.append(h.copy())
            return np.stack(hs, 1), c
        """,
    "masked after the step": """
        def masked_backward(dhs, dc_last, mask, caches, W, U):
            dx, dW, dU, db = np.zeros((*dhs.shape[:2], W.shape[0])), 0, 0, 0
            dh, dc = np.zeros_like(dc_last), dc_last
            for t in reversed(range(len(caches))):
                valid = mask[:, t, None]
                dh = dh + dhs[:, t]
                step = lstm_step_backward(dh, dc, caches[t], W, U)
                dz = step.dz * valid
                dx[:, t] = dz @ W.T
                dW, dU, db = dW + caches[t].x.T @ dz, dU + caches[t].h_prev.T @ dz, db + dz.sum(0)
                dh, dc = np.where(valid, step.dh_prev, dh), np.where(valid, step.dc_prev, dc)
            return dx, dW, dU, db, dh, dc
        """,
    "piece by piece, recursion": """
        def truncated(x, dhs, h0, c0, W, U, b, k):
            hs, c, caches = lstm_forward(x[:, :k], h0, c0, W, U, b)
            _, dW, dU, db, _, _ = lstm_backward(dhs[:, :k], 0 * c, caches, W, U)
            if x.shape[1] <= k:
                return dW, dU, db, hs[:, -1], c
            dW_rest, dU_rest, db_rest, h, c = truncated(x[:, k:], dhs[:, k:], hs[:, -1], c, W, U, b, k)
            return dW + dW_rest, dU + dU_rest, db + db_rest, h, c
        """,
    "forward once, backward in pieces": """
        def truncated(x, dhs, h0, c0, W, U, b, k):
            hs, c, caches = lstm_forward(x, h0, c0, W, U, b)
            total, start = (0, 0, 0), 0
            while start < x.shape[1]:
                piece = slice(start, start + k)
                own = lstm_backward(dhs[:, piece], np.zeros_like(c), caches[piece], W, U)[1:4]
                total = tuple(a + b for a, b in zip(total, own))
                start += k
            return *total, hs[:, -1], c
        """,
    "np.take": "def lookup(ids, table): return np.take(table, ids, axis=0)",
    "a one-hot product": "def lookup(ids, table): return np.eye(len(table))[ids] @ table",
    "a list of lists": "def lookup(ids, table): return np.array([[table[v] for v in row] for row in ids])",
    "a one-hot product, transposed": """
        def dtable(ids, x, dx, table):
            return np.eye(len(table))[ids.ravel()].T @ dx.reshape(-1, dx.shape[-1])
        """,
    "place by place": """
        def dtable(ids, x, dx, table):
            total = 0 * table
            for v, each in zip(ids.flat, dx.reshape(-1, dx.shape[2])):
                total[v] += each
            return total
        """,
    "np.bincount of each column": """
        def dtable(ids, x, dx, table):
            columns = [np.bincount(ids.ravel(), dx[:, :, e].ravel(), len(table)) for e in range(dx.shape[2])]
            return np.stack(columns, axis=1)
        """,
    "word by word": """
        def dtable(ids, x, dx, table):
            return np.array([dx[ids == v].sum(axis=0) for v in range(len(table))])
        """,
    "np.logaddexp": "def loss(logit, y): return (np.logaddexp(0, logit) - y * logit).mean()",
    "two cases": """
        def loss(z, y):
            return float(sum(np.log1p(np.exp(-abs(a))) + (max(a, 0) - a * b) for a, b in zip(z.flat, y.flat)) / z.size)
        """,
    "of its own σ": "def dlogit(logit, p, y): return (1 / (1 + np.exp(-logit)) - y) / logit.shape[0]",
    "dw, elementwise": "def dw(h, p, y, dlogit): return (h * dlogit).sum(axis=0)[:, np.newaxis]",
    "dw, einsum": "def dw(h, p, y, dlogit): return np.einsum('nj,nk->jk', h, dlogit)",
    "dw0, a product with ones": "def dw0(h, p, y, dlogit): return np.ones(len(h)) @ dlogit",
    "dw0, an array of one": "def dw0(h, p, y, dlogit): return np.array([dlogit.sum()])",
    "dh, broadcast": "def dh(h, w, p, y, dlogit): return dlogit * w[:, 0]",
    "dh, np.outer": "def dh(h, w, p, y, dlogit): return np.outer(dlogit, w)",
}


@pytest.mark.parametrize("style", RIGHT)
def test_other_styles_are_right(style):
    name = RIGHT[style].split("def ")[1].split("(")[0]
    assert verdict(name, RIGHT[style])[3:] == ("right", "")


WRONG = {
    "dh not carried, filled from the end": (
        """
        def through_time(dh_last, dc, hs, caches, W, U):
            dz, nothing = np.zeros((*hs.shape[:2], W.shape[1])), np.zeros_like(dc)
            for t in range(len(caches) - 1, -1, -1):
                step = lstm_step_backward(dh_last if t == len(caches) - 1 else nothing, dc, caches[t], W, U)
                dz[:, t], dc = step.dz, step.dc_prev
            return dz, nothing, dc
        """,
        "dh is not carried to the previous step",
    ),
    "two at once": (
        """
        def through_time(dh, dc_last, hs, caches, W, U):
            dz, dc = [], 0 * dc_last
            for cache in caches[::-1]:
                step = lstm_step_backward(dh, dc, cache, W, U)
                dh, dc = step.dh_prev, step.dc
                dz += [step.dz]
            return np.stack(dz[::-1], 1), dh, dc
        """,
        "dc_last is lost: the last c has a gradient, too; and step.dc belongs to this step's own c",
    ),
    "the last step's dU": (
        """
        def sums_over_time(x, hs, h0, dz):
            last = hs[:, -2] if x.shape[1] > 1 else h0
            return np.einsum("nte,ntz->ez", x, dz), last.T @ dz[:, -1], dz.sum((0, 1))
        """,
        f"dU is that of the last step only: it is overwritten at each step, but must be added up (24). {ONE_STEP}",
    ),
    "means over time": (
        """
        def sums_over_time(x, hs, h0, dz):
            h_prev = np.concatenate([h0[:, None], hs[:, :-1]], axis=1)
            dU = np.einsum("nth,ntz->hz", h_prev, dz)
            return np.einsum("nte,ntz->ez", x, dz) / x.shape[1], dU, dz.mean(1).sum(0)
        """,
        "dW: it is divided by 4, the number of steps: no mean belongs there; db: it is divided by 4",
    ),
    "nothing known: dh halves": (
        """
        def every_step(dhs, dc, hs, caches, W, U):
            dh, steps = 0, []
            for t in range(len(caches) - 1, -1, -1):
                step = lstm_step_backward(dhs[:, t] + 0.5 ** (len(caches) - 1 - t) * dh, dc, caches[t], W, U)
                dh, dc = step.dh_prev, step.dc_prev
                steps.insert(0, step)
            dW, dU, db = (sum(getattr(each, name) for each in steps) for name in ("dW", "dU", "db"))
            return np.stack([step.dx for step in steps], 1), dW, dU, db, dh, dc
        """,
        f". {ONE_STEP}: the mistake is in how the steps are connected",
    ),
    "an error after the first step": (
        """
        def every_step(dhs, dc, hs, caches, W, U):
            step = lstm_step_backward(dhs[:, -1], dc, caches[-1], W, U)
            if len(caches) > 1:
                return dhs @ step.dx
            return step.dx[:, None], step.dW, step.dU, step.db, step.dh_prev, step.dc_prev
        """,
        f"W (5, 8), U (2, 8)). {ONE_STEP}",
    ),
    "only h is kept": (
        """
        def masked_forward(x, mask, h, c, W, U, b):
            hs = np.zeros((*x.shape[:2], h.shape[1]))
            for t in range(x.shape[1]):
                new, c, _ = lstm_step_forward(x[:, t], h, c, W, U, b)
                hs[:, t] = h = np.where(mask[:, t][:, None], new, h)
            return hs, c
        """,
        "c changes at masked steps; there it keeps its old value",
    ),
    "only dh passes": (
        """
        def masked_backward(dhs, dc, mask, caches, W, U):
            dh, steps = 0 * dc, []
            for t in range(len(caches) - 1, -1, -1):
                m = mask[:, t, None]
                dh = dhs[:, t] + dh
                step = lstm_step_backward(dh * m, dc * m, caches[t], W, U)
                dh, dc = dh * ~m + step.dh_prev, step.dc_prev
                steps.insert(0, step)
            dW, dU, db = (sum(getattr(each, name) for each in steps) for name in ("dW", "dU", "db"))
            return np.stack([step.dx for step in steps], 1), dW, dU, db, dh, dc
        """,
        "dc_next is lost at masked steps",
    ),
    "states begin again": (
        """
        def truncated(x, dhs, h0, c0, W, U, b, k):
            total = 0, 0, 0
            for t in range(0, x.shape[1], k):
                hs, c, caches = lstm_forward(x[:, t : t + k], h0, c0, W, U, b)
                own = lstm_backward(dhs[:, t : t + k], 0 * c, caches, W, U)[1:4]
                total = [a + b for a, b in zip(total, own)]
            return *total, hs[:, -1], c
        """,
        f"every piece starts with h0 and c0; only the gradient is cut, the states are passed on. {ONE_STEP}",
    ),
    "a dictionary": (
        """
        def dtable(ids, x, dx, table):
            rows = {v: dx[n, t] for (n, t), v in np.ndenumerate(ids)}
            return np.array([rows.get(v, np.zeros(table.shape[1])) for v in range(len(table))])
        """,
        "only one gradient is kept for an id that occurs more than once",
    ),
    "exp of a large number": (
        "def loss(z, y): return np.mean(np.log(1 + np.exp(z)) - z * y)",
        "right for small logits, but for logits of 1000 and -1000 it gives inf instead of 500",
    ),
    "log of 0": (
        """
        def loss(z, y):
            p = 1 / (1 + np.exp(-z))
            return np.mean(-y * np.log(p) - (1 - y) * np.log(1 - p))
        """,
        "for logits of 1000 and -1000 it gives nan instead of 500",
    ),
    "p clipped": (
        """
        def loss(z, y):
            p = np.clip(1 / (1 + np.exp(-z)), 1e-7, 1 - 1e-7)
            return np.mean(-y * np.log(p) - (1 - y) * np.log(1 - p))
        """,
        "Keeping p away from 0 and 1 only hides that",
    ),
    "not cancelled": (
        "def dlogit(logit, p, y): return (-y / p + (1 - y) / (1 - p)) * p * (1 - p) / len(y)",
        "right for small logits, but wrong if p is exactly 0 or 1",
    ),
    "no transpose": ("def dw(h, p, y, dlogit): return h @ dlogit", "(shapes: h (3, 2), p (3, 1), y (3, 1)"),
    "dw as a row": ("def dw(h, p, y, dlogit): return np.sum(h * dlogit, 0, keepdims=True)", "it is the transpose"),
}


@pytest.mark.parametrize("style", WRONG)
def test_other_styles_are_wrong_in_words(style):
    source, says = WRONG[style]
    name = source.split("def ")[1].split("(")[0]
    found = verdict(name, source)
    assert found.state == "wrong"
    assert says in found.says


def test_one_step_is_not_spoken_of_when_four_are_right():
    source, _ = WRONG["log of 0"]
    assert ONE_STEP not in verdict("loss", source).says


@pytest.mark.parametrize("exercise", OURS, ids=NAMES)
def test_one_step_is_spoken_of_only_if_it_is_right(exercise):
    told = []
    for name in exercise.functions:
        for mistake in exercise.mistakes_in(name):
            wrong = exercise.planted(mistake)[name]
            given, right = arguments(exercise, name, T=1)
            try:
                same = all(map(np.array_equal, parts(wrong(*given)), parts(right)))
            except ValueError:  # no step is left to stack
                same = False
            assert (ONE_STEP in judge(exercise, name, wrong).says) == same, mistake
            told.append(same)
    assert any(told) == (exercise.name != "dense")
    assert not all(told)


def arguments(exercise, name, T):
    """Of a function, and its right result."""
    right, scene = exercise.functions[name], exercise.scene(0, B=3, T=T, E=5, H=2)
    given = [scene[each] for each in right.__code__.co_varnames[: right.__code__.co_argcount]]
    return given, right(*given)


def parts(result):
    return result if isinstance(result, tuple) else (result,)


def outcome(function, given):
    """The parts of a result, or the error."""
    try:
        return parts(function(*given))
    except ValueError as error:
        return (repr(error),)


def same(one, other):
    if isinstance(one[0], str) or isinstance(other[0], str):
        return str(one) == str(other)
    return all(x.shape == y.shape and np.allclose(x, y, 1e-4, 1e-4) for x, y in zip(one, other, strict=True))


def test_no_two_mistakes_give_the_same():
    for exercise in OURS:
        for name in exercise.functions:
            given, right = arguments(exercise, name, T=4)
            given_one, right_one = arguments(exercise, name, T=1)
            results = {}
            for mistake in exercise.mistakes_in(name):
                function = exercise.planted(mistake)[name]
                results[mistake.new] = outcome(function, given)
                if same(results[mistake.new], parts(right)):  # then it is found with one step
                    assert not same(outcome(function, given_one), parts(right_one)), (name, mistake.new)
            for (one, a), (other, b) in itertools.combinations(results.items(), 2):
                assert not same(a, b), (name, one, other)


def test_pairs_of_mistakes_are_named():
    rng = np.random.default_rng(14)
    functions = [(each, name) for each in OURS for name in each.functions if len(each.mistakes_in(name)) > 8]
    one, both, tried = 0, 0, 0
    while tried < 30:
        exercise, name = functions[rng.integers(len(functions))]
        known = exercise.mistakes_in(name)
        pair = [known[k] for k in sorted(rng.choice(len(known), 2, replace=False))]
        try:
            function = exercise.planted(*pair)[name]
        except ValueError:  # of one line
            continue
        tried += 1
        says = judge(exercise, name, function).says
        named = {mistake for mistake in known if mistake.says in says}
        one += bool(named & set(pair))
        both += named == set(pair)
        assert named <= set(pair), (name, pair)
    assert one == tried
    assert both >= 0.9 * tried


@pytest.mark.parametrize("exercise", OURS, ids=NAMES)
def test_each_blank_left_open_is_said_to_be_open(exercise):
    solved = exercise.solution
    blanks = [line for line in solved.splitlines() if (found := _OPEN.fullmatch(line)) and not found["gone"]]
    for blank in blanks:
        left, rest = solved.split(blank)
        while _OPEN.fullmatch(goes_on := rest.split("\n")[1]) and goes_on.endswith("?-"):
            rest = rest.replace("\n" + goes_on, "", 1)
        left += f"{_OPEN.fullmatch(blank)['left']}..."
        scope = {}
        exec(left + rest, scope)
        states = [judge(exercise, name, scope[name]).state for name in exercise.functions]
        assert sorted(states) == ["open"] + ["right"] * (len(states) - 1), blank


BAD = {
    "a list of steps": (
        "through_time",
        "return [lstm_step_backward(dh_last, dc_last, each, W, U).dz for each in caches], dh_last, dc_last",
        "dz must be an array, not a list: use np.stack or np.array",
    ),
    "a list of all": ("through_time", "return [dh_last, dc_last]", "it must return 3 values, dz, dh0, dc0, not 2"),
    "a generator": (
        "sums_over_time",
        "return (sum(step) for step in (x, hs, dz))",
        "it must return 3 values, dW, dU, db, not one",
    ),
    "a generator in it": (
        "sums_over_time",
        "return (x[:, t].T @ dz[:, t] for t in range(4)), h0, h0",
        "dW must be an array of numbers, not generator",
    ),
    "None for a part": ("through_time", "return None, dh_last, dc_last", "dz is None; it must be an array"),
    "one step too few": (
        "masked_forward",
        "return np.stack([lstm_step_forward(x[:, t], h0, c0, W, U, b)[0] for t in (0, 1, 2)], 1), c0",
        "hs: it must have the shape (3, 4, 2), that is (B, T, H), not (3, 3, 2)",
    ),
    "overflow": (
        "every_step",
        "return [np.exp(1000 * np.abs(each)) for each in (caches[0].x, W, U, W[0], hs[:, 0], hs[:, 0])]",
        "dW: it is NaN or infinite at [0, 0]: look for a division by 0, exp of a large number",
    ),
    "added to dhs": (
        "every_step",
        "dhs[:, 0] += dhs[:, 1]",
        "it changes its argument dhs; compute a new array, or change a copy of it",
    ),
    "a step that does not exist": ("every_step", "return dhs[:, len(caches)]", "IndexError: index 4 is out of bounds"),
    "a table row that does not exist": ("lookup", "return table[ids + 7]", "IndexError: index 7 is out of bounds"),
    "another number": ("loss", "return 0.5", "known here. 0.5 should be 0."),
    "a number in a list": ("loss", "return [0.5]", "it must be a single number, not an array of shape (1,)"),
}


@pytest.mark.parametrize("case", BAD)
def test_results_that_cannot_be_compared(case):
    name, body, says = BAD[case]
    right = find(name).functions[name]
    found = verdict(name, f"def {name}({', '.join(right.__code__.co_varnames[: right.__code__.co_argcount])}): {body}")
    assert found.state == "wrong"
    assert says in found.says
