"""What is said about a wrong array, and that exactly the wrong equations of an LSTM step are named."""

import ast
import copy
import inspect
import itertools
import re

import numpy as np
import pytest

from scratchlstm import gates
from scratchlstm.gradcheck import diagnosis
from scratchlstm.gradcheck.diagnosis import explain, explain_step, random_step, wrong_equations

KNOWN = random_step(N=3, E=2, H=4)
i, f, g, o, c, c_prev, tanh_c, h_prev = (
    KNOWN[name] for name in ("i", "f", "g", "o", "c", "c_prev", "tanh_c", "h_prev")
)
dh, dc_next, x, W, U = (KNOWN[name] for name in ("dh", "dc_next", "x", "W", "U"))
RIGHT = gates.lstm_step_backward(dh, dc_next, diagnosis._cache(KNOWN), W, U)
dc, dz, db = RIGHT.dc, RIGHT.dz, RIGHT.db
AT_HAND = {name: KNOWN[name] for name in KNOWN if name not in ("b", "h")} | {"dc": dc, "dz": dz, "B": 3}
STEPS = np.random.default_rng(1).normal(size=(3, 4, 2))
MASK = np.array([[1, 1, 0, 1], [1, 0, 1, 1], [0, 0, 1, 0]], bool)
OF_SIGMA, OF_TANH = ", the derivative of σ", ", the derivative of tanh"
TERM = "dh o (1 - tanh_c²)"
THROUGH_H = {"dc_next": dc_next, TERM: dh * o * (1 - tanh_c**2)}
SQUARE = np.random.default_rng(2).normal(size=(4, 4))


def in_blocks(*order):
    blocks = np.split(dz, 4, axis=1)
    return np.concatenate([blocks["ifgo".index(gate)] for gate in order], axis=1)


@pytest.mark.parametrize(
    ("found", "right", "text"),
    [
        # factors
        (dc * c_prev, dc * c_prev * f * (1 - f), "the factor f (1 - f) is missing, the derivative of σ"),
        (dc * i, dc * i * (1 - g * g), "the factor 1 - g² is missing, the derivative of tanh"),
        (dc * g * i, dc * g * i * (1 - i), "the factor 1 - i is missing (as in i (1 - i), the derivative of σ)"),
        (dc * i * (1 - g), dc * i * (1 - g * g), "the factor 1 + g is missing (as in 1 - g², the derivative of tanh)"),
        (dc, dc * f, "the factor f is missing"),
        (dc * f * f, dc * f, "the factor f is one too many"),
        (dc * o**3, dc * o, "the factor o² is one too many"),
        (dc * c, dc * c_prev, "you have c where c_prev belongs"),
        (dc * c_prev * (1 - f * f), dc * c_prev * f * (1 - f), f"you have 1 - f² where f (1 - f) belongs{OF_SIGMA}"),
        (dc * i * g * (1 - g), dc * i * (1 - g * g), "you have g (1 - g) where 1 - g² belongs, the derivative of tanh"),
        (dc * g * f * (1 - f), dc * g * i * (1 - i), "you have f (1 - f) where i (1 - i) belongs, the derivative of σ"),
        (dc_next * c_prev, dc * c_prev, "you have dc_next where dc belongs"),
        (-dc * f, dc * f, "the sign is wrong"),
        (-dc, dc * f, "the factor f is missing, and the sign is wrong"),
        (dz.mean(axis=0), db, "it is divided by 3, the batch size: no mean belongs there"),
        (dz.mean(axis=0) * 2, db, "it is 2/3 times the right value"),
        (db, dz.mean(axis=0), "it is multiplied by 3, the batch size: no sum belongs there"),
        (dc * f / 2, dc * f, "it is divided by 2"),
        (dc * f * 0.9, dc * f, "it is 0.9 times the right value"),
        (-dc * f * 0.7, dc * f, "it is 0.7 times the right value, and the sign is wrong"),
        (dc * dh * (1 - f) ** 2, dc * dh * f, "you have (1 - f)² where f belongs"),
        (dc * dh * (1 - f), dc * c, "you have dh (1 - f) where c belongs"),
        (dc * (f - f * f) ** 2, dc, "the factor (f (1 - f))² is one too many"),
        (0 * dc, dc * f, "it is 0 everywhere"),
        (STEPS, STEPS * MASK[..., None], "the factor mask is missing"),
        # terms
        (f * c_prev, f * c_prev + i * g, "it is right once i g is added"),
        (f * c_prev - i * g, f * c_prev + i * g, "it is right once 2 i g is added"),
        (f * c_prev + i * g + h_prev, f * c_prev + i * g, "it is right once h_prev is subtracted"),
        (dh * o * (1 - tanh_c**2), dc, "it is right once dc_next is added"),
        # order
        (SQUARE.T, SQUARE, "it is transposed"),
        (SQUARE[::-1], SQUARE, "the rows are in reverse order"),
        (STEPS[:, ::-1], STEPS, "the steps are in reverse order"),
        (np.roll(STEPS, 1, axis=1), STEPS, "each step has the value of the previous step"),
        (np.roll(STEPS, -1, axis=1), STEPS, "each step has the value of the next step"),
        (STEPS.reshape(4, 6).T.reshape(3, 4, 2), STEPS, "the values are right, but in another order"),
        (in_blocks(*"figo"), dz, "the blocks of i and f are swapped"),
        (in_blocks(*"ogif"), dz, "the blocks are o g i f, not i f g o"),
        (in_blocks(*"oooo"), dz, "the blocks are o o o o, not i f g o"),
        # other quantities
        (dh, x @ W[:, :4], "this is dh"),
        (dz @ W.T, x.copy(), "this is dz @ W.T"),
        (x.T @ dz, W * W, "this is x.T @ dz"),
        (dc @ U, dz @ U.T @ U, "this is dc @ U"),
        (i.T @ dz, h_prev.T @ dz, "you have i.T @ dz where h_prev.T @ dz belongs"),
        (STEPS.sum(axis=0), STEPS[:, :, 0].T @ STEPS[:, 0] @ np.eye(2), "this is the sum of steps over axis 0"),
        # parts
        (dz * np.array([[1], [3], [1]]), dz, "right in rows 0 and 2, wrong in row 1: it is multiplied by 3"),
        (np.where(np.arange(3)[:, None] == 1, 0, dc), dc, "right in rows 0 and 2, wrong in row 1: it is 0 everywhere"),
        (np.where(np.arange(3)[:, None] == 1, SQUARE[:3], dc), dc, "right in rows 0 and 2, wrong in row 1"),
        (
            np.where(np.arange(4) == 3, 1, 0)[:, None] * STEPS,
            STEPS,
            "right in step 3, wrong in steps 0, 1 and 2: it is 0 everywhere",
        ),
        (
            np.where(MASK[..., None], STEPS, np.roll(STEPS, 1, 0)),
            STEPS,
            "right where mask is 1, wrong where it is 0",
        ),
        (
            np.where(np.arange(16) // 4 == 1, dz / 2, dz),
            dz,
            "right in the blocks i, g and o, wrong in the block f: it is divided by 2",
        ),
    ],
)
def test_a_mistake_in_words(found, right, text):
    hand = AT_HAND | {"mask": MASK, "steps": STEPS}
    assert explain(found, right, hand, blocks="ifgo" if right.shape == dz.shape else "") == text


OF_BATCH = "the batch size"


@pytest.mark.parametrize(
    ("found", "right", "text"),
    [
        # a term that the right formula has not is not called missing
        (dc * (g - c_prev), dc * g, "it is right once c_prev dc is added"),
        (dc * (1 - 2 * g**2), dc * (1 - g**2), "it is right once g² dc is added"),
        (dc * g - 2 * c * f, dc * g, "it is right once 2 f c is added"),
        (dc * g + 1, dc * g, "it is right once 1 is subtracted"),
        (dc_next + dh * o * (1 - tanh_c**2) ** 2, dc, None),  # too long a term
        # one number
        (x.T @ dz / 12, x.T @ dz, "it is divided by 12"),
        (x.T @ dz * 50000, x.T @ dz, "it is multiplied by 50000"),
        (x.T @ dz * 3 / 4, x.T @ dz, "it is 0.75 times the right value"),
        (-x.T @ dz * 1.7, x.T @ dz, "it is 1.7 times the right value, and the sign is wrong"),
        (x.T @ dz * 0.73125, x.T @ dz, "it is 0.7312 times the right value"),
        (dc * f / 3, dc * f, f"it is divided by 3, {OF_BATCH}"),
        (
            3 * dc * f,
            dc * f * i * (1 - i),
            f"the factor i (1 - i) is missing{OF_SIGMA}, and it is multiplied by 3, {OF_BATCH}",
        ),
        (2 * dc * c, dc * c_prev, "you have c where c_prev belongs, and it is multiplied by 2"),
        (dc * f * o / 2, dc * f, "the factor o is one too many, and it is divided by 2"),
        (-2 * dc * f * o, dc * f, "the factor o is one too many, and it is multiplied by 2, and the sign is wrong"),
        (6 * dc * f * o, dc * f, "the factor o is one too many, and it is multiplied by 6"),
        (24 * dc * f * o, dc * f, None),  # 3 · 8 is not offered
        # a division
        (dc * i / g, dc * i, "it is divided by g"),
        (dc * i / g, dc * i * f, "it is divided by f g"),
        (dc * i * c / g, dc * i, "it is multiplied by c and divided by g"),
        (dc_next * i / g + dh / g, dc_next * i + dh, "it is right once it is multiplied by g"),
        # one minus what is no gate
        (dc * (1 - x[:, :1]), dc, None),
        (dc * (1 - c_prev), dc * c_prev, None),
        (dc * (1 - c**2), dc * (1 - tanh_c**2), f"you have 1 - c² where 1 - tanh_c² belongs{OF_TANH}"),
    ],
)
def test_no_more_is_said_than_the_values_show(found, right, text):
    assert explain(found, right, AT_HAND) == text


def test_a_slope_is_that_of_an_activation_or_of_what_goes_into_it():
    small = {"dc": dc / 10, "x_t": dh / 10}  # between -1 and 1, as tanh is, but it has no slope
    for array in small.values():
        assert explain(c * (1 - array), c, small) is None
        assert explain(c * (1 - array**2), c, small) is None
    z_g = 3 * np.arctanh(g)
    text = f"you have 1 - z_g² where 1 - g² belongs{OF_TANH}"
    assert explain(dc * (1 - z_g**2), dc * (1 - g**2), {"dc_": dc, "g": g, "z_g": z_g}) == text


def test_labels_explain_nothing():
    """They have two values: in the rows that have the same one, different formulas agree."""
    p, y = np.array([[0.3], [0.6], [0.8]]), np.array([[1.0], [0], [1]])
    hand = {"p": p, "y": y, "B": 3}
    for found in p, p - 2 * y, -y / p, y * (p - y), np.where(y == 1, 0.5, p - y):
        assert explain(found / 3, (p - y) / 3, hand) is None
    text = f"the factor p (1 - p) is one too many, and it is multiplied by 3, {OF_BATCH}"
    assert explain((p - y) * p * (1 - p), (p - y) / 3, hand) == text
    assert explain(np.where(y == 1, 0.5, p - y), p - y, {"valid": y}) == "right where valid is 0, wrong where it is 1"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (dc_next, "the term dh o (1 - tanh_c²) is missing"),
        (dc_next - dh * o * (1 - tanh_c**2), "the term dh o (1 - tanh_c²) has the wrong sign"),
        (dc_next + dh * o, f"in the term {TERM}, the factor 1 - tanh_c² is missing{OF_TANH}"),
        (
            dc_next + dh * o * (1 - c**2),
            f"in the term {TERM}, you have 1 - c² where 1 - tanh_c² belongs{OF_TANH}",
        ),
        (dc_next + dh * o * (1 - tanh_c**2) + c_prev, "the term c_prev is one too many"),
        (dc - c_prev, "it is right once c_prev is added"),
        (dc_next + dh * o * (1 - tanh_c**2) / 2, f"the term {TERM} is divided by 2"),
        (dc_next + dh * o * (1 - tanh_c**2) ** 2, f"in the term {TERM}, the factor 1 - tanh_c² is one too many"),
    ],
)
def test_a_mistake_inside_a_term(found, text):
    assert explain(found, dc, AT_HAND, terms=THROUGH_H) == text


def test_terms_of_steps():
    of_steps = {f"of step {t}": STEPS[:, t] for t in range(4)}
    total = STEPS.sum(axis=1)
    assert explain(STEPS[:, 3], total, {}, terms=of_steps) == "only the term of step 3 is there"
    assert explain(STEPS[:, 1:].sum(axis=1), total, {}, terms=of_steps) == "the term of step 0 is missing"
    text = "the terms of step 0 and of step 2 are missing"
    assert explain(STEPS[:, 1] + STEPS[:, 3], total, {}, terms=of_steps) == text
    assert explain(STEPS.mean(axis=1), total, {"T": 4}, terms=of_steps).startswith("it is divided by 4, the number of")


def test_nothing_is_guessed():
    """Numbers that have nothing to do with what is at hand, in arrays of any size."""
    for seed, shape in itertools.product(range(10), [(1, 1), (1, 2), (1, 3), (2, 2), (3, 4)]):
        hand = random_step(seed, shape[0], 2, shape[1]) | {"B": shape[0]}
        found, right = np.random.default_rng(seed + 100).normal(size=(2, *shape))
        assert explain(found, right, hand, terms={"c": hand["c"]}) is None
        assert explain(found, right, hand, tolerance=1e-5) is None


def test_what_is_right_or_no_number_is_not_explained():
    assert explain(dc, dc, AT_HAND) is None
    assert explain(dc + 1e-9, dc, AT_HAND) is None
    assert explain(dc * np.nan, dc, AT_HAND) is None
    with pytest.raises(ValueError, match=r"must have the same shape, not \(3, 4\) and \(4, 3\)"):
        explain(dc, dc.T, AT_HAND)


def test_a_few_numbers_are_explained_by_little():
    """One number is the product of many things by chance, so that no long product is offered."""
    assert explain(np.array(6.0), np.array(3.0), {"B": 2}).startswith("it is multiplied by 2, the batch size")
    assert explain(np.array([0.3]), np.array([0.07]), {"a": np.array([0.3]), "b": np.array([0.07])}) is None


def test_numerical_gradients_are_good_enough():
    noise = 1e-8 * np.random.default_rng(0).uniform(-1, 1, dc.shape)
    right = dc * c_prev * f * (1 - f) + noise
    assert explain(dc * c * f * (1 - f), right, AT_HAND) == "you have c where c_prev belongs"
    assert explain(dc_next, dc + noise, AT_HAND, terms=THROUGH_H).endswith("is missing")


@pytest.mark.filterwarnings("error")
def test_zeros_among_the_right_values():
    """As where a step is masked: nothing is divided by them."""
    valid = np.array([[1.0], [0], [1]])
    hand = AT_HAND | {"valid": valid}
    assert explain(valid * dc, valid * dc * f, hand) == "the factor f is missing"
    assert explain(valid * dc * c, valid * dc * c_prev, AT_HAND) == "you have c where c_prev belongs"
    assert explain(dc, 0 * dc, {"f": f}) is None
    assert explain(dc * f, 0 * dc, AT_HAND) == "it is right once f dc is subtracted"


# --- a whole step -----------------------------------------------------------------------------------------------------

SOURCE = inspect.getsource(gates.lstm_step_backward).partition("\n")[2]  # without the decorator
EQUATIONS = {name: int(number) for name, number in re.findall(r"^ +(\w+) = .*# .*\((\d+)\)$", SOURCE, re.MULTILINE)}
NAMES = ["dh", "dc_next", "i", "f", "g", "o", "c_prev", "tanh_c", *(name for name in EQUATIONS if EQUATIONS[name] < 17)]
NAMES.remove("dc_prev")
MORE = [
    ("df", "dc * (f * c_prev + i * g)"),
    ("dc", "dc_next + dh * o * tanh_c"),
    ("dc", "dc_next + dh * o * phi_prime(f * c_prev + i * g)"),
    ("dz_f", "df * sigma_prime(1 / (1 + xp.exp(-f)))"),
    ("dz_g", "dg * g * (1 - g)"),
    ("dz_i", "di * (1 - i)"),
    ("dz", "xp.concat([dz_f, dz_i, dz_g, dz_o], axis=1)"),
    ("dz", "xp.concat([dz_o, dz_i, dz_f, dz_g], axis=1)"),
    ("dz", "xp.concat([dz_i, dz_i, dz_g, dz_o], axis=1)"),
    ("dx", "dz_i @ W[:, : dz_i.shape[1]].T"),
    ("dW", "x.T @ dz / len(dz)"),
    ("dU", "h_prev.T @ dz / len(dz)"),
    ("dU", "c_prev.T @ dz"),
    ("db", "xp.mean(dz, axis=0)"),
    ("db", "dz[-1]"),
    ("db", "xp.concat([xp.sum(dz_o, axis=0)] * 4)"),
]


def instead(node):
    """What could be there by mistake."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Add):
        yield from (node.left, node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield ast.BinOp(node.left, ast.Sub(), node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.MatMult):
        yield ast.UnaryOp(ast.USub(), node)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("_prime"):
        yield node.args[0]
        other = "phi_prime" if ast.unparse(node.func) == "sigma_prime" else "sigma_prime"
        yield ast.Call(ast.Name(other), node.args, [])
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield from (ast.Name(name) for name in NAMES if (name[0] == "d") == (node.id[0] == "d") and name != node.id)


class Replaced(ast.NodeTransformer):
    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


def lines():
    return [each for each in ast.parse(SOURCE).body[0].body if isinstance(each, ast.Assign)]


def built(*mistakes):
    """`lstm_step_backward` with other right sides."""
    tree = ast.parse(SOURCE)
    for line in tree.body[0].body:
        name = ast.unparse(line.targets[0]) if isinstance(line, ast.Assign) else ""
        line.value = ast.parse(dict(mistakes)[name], mode="eval").body if name in dict(mistakes) else line.value
    scope = dict(vars(gates))
    exec(compile(ast.fix_missing_locations(tree), "a wrong step", "exec"), scope)
    return scope["lstm_step_backward"]


def is_wrong(backward):
    """Whether it runs, gives the right shapes, and other numbers."""
    try:
        pairs = list(zip(backward(dh, dc_next, diagnosis._cache(KNOWN), W, U), RIGHT, strict=True))[:6]
    except (NameError, ValueError):
        return False
    return all(a.shape == b.shape for a, b in pairs) and not all(np.allclose(a, b) for a, b in pairs)


def all_mistakes():
    found = []
    for line in lines():
        name, right = ast.unparse(line.targets[0]), line.value
        for node in ast.walk(right) if name in EQUATIONS else ():
            for other in instead(node):
                kept = {id(node): node, id(other): other}
                found.append((name, ast.unparse(Replaced(node, other).visit(copy.deepcopy(right, kept)))))
    return [mistake for mistake in dict.fromkeys(found + MORE) if is_wrong(built(mistake))]


MISTAKES = all_mistakes()


def named(finding):
    """The equations that a finding names, and "dz" for an order of blocks."""
    numbers = list(map(int, re.findall(r"\d+", finding.equation)))
    if " to " in finding.equation:
        return {*range(numbers[0], numbers[1] + 1), finding.name}
    return {*numbers}


def of(mistake):
    return EQUATIONS.get(mistake[0], "dz")


def test_the_right_step_is_right():
    assert explain_step(gates.lstm_step_backward) == []


def test_each_mistake_is_named_once_and_explained():
    assert len(MISTAKES) > 150
    assert {of(mistake) for mistake in MISTAKES} == {*EQUATIONS.values(), "dz"}
    unexplained, sharp = [], 0
    for mistake in MISTAKES:
        findings = explain_step(built(mistake))
        assert len(findings) == 1, (mistake, findings)
        assert of(mistake) in named(findings[0]), (mistake, findings)
        sharp += named(findings[0]) == {of(mistake)}
        unexplained += [] if findings[0].text else [mistake]
    assert sharp > 0.7 * len(MISTAKES)
    assert unexplained == [
        *((f"dz_{gate}", f"d{gate} * sigma_prime(c_prev)") for gate in "ifo"),
        ("dz_f", "df * sigma_prime(1 / (1 + xp.exp(-f)))"),
    ]


def test_of_two_mistakes_one_at_least_is_named_and_none_that_is_not_there():
    rng = np.random.default_rng(0)
    one = both = none_else = pairs = 0
    while pairs < 100:
        mistakes = [MISTAKES[k] for k in rng.choice(len(MISTAKES), 2, replace=False)]
        backward = built(*mistakes)
        if mistakes[0][0] == mistakes[1][0] or not is_wrong(backward):
            continue
        pairs += 1
        findings = [named(finding) for finding in explain_step(backward)]
        hits = [any(of(mistake) in each for each in findings) for mistake in mistakes]
        one, both = one + any(hits), both + all(hits)
        none_else += all(each & {of(mistake) for mistake in mistakes} for each in findings)
    assert one >= 0.99 * pairs
    assert both >= 0.95 * pairs
    assert none_else >= 0.99 * pairs


@pytest.mark.parametrize(
    ("mistakes", "expected"),
    [
        (
            [("dc", "dc_next + dh * o")],
            [("(8)", "dc", f"in the term {TERM}, the factor 1 - tanh_c² is missing{OF_TANH}")],
        ),
        (
            [("dz_i", "di * i")],
            [("(13)", "dz_i", "the factor 1 - i is missing (as in i (1 - i), the derivative of σ)")],
        ),
        ([("df", "dc * o")], [("(10)", "dz_f", "you have o where c_prev belongs")]),
        ([("df", "dc")], [("(10) or (14)", "dz_f", "the factor c_prev is missing")]),
        ([("dz_f", "-df * sigma_prime(f)")], [("(10) or (14)", "dz_f", "the sign is wrong")]),
        ([("dc_prev", "dc")], [("(12)", "dc_prev", "the factor f is missing")]),
        ([("dU", "c_prev.T @ dz")], [("(20)", "dU", "you have c_prev.T @ dz where h_prev.T @ dz belongs")]),
        (
            [("db", "xp.mean(dz, axis=0)")],
            [("(21)", "db", "it is divided by 3, the batch size: no mean belongs there")],
        ),
        ([("db", "dz[0]")], [("(21)", "db", "only the term of sample 0 is there")]),
        (
            [("dz", "xp.concat([dz_f, dz_i, dz_g, dz_o], axis=1)")],
            [("(13) to (16)", "dz", "the blocks of i and f are swapped")],
        ),
        (
            [("dz", "xp.concat([dz_i, dz_i, dz_g, dz_o], axis=1)")],
            [("(13) to (16)", "dz", "the block of f holds that of i")],
        ),
        (
            [("dz", "xp.concat([dz_f, dz_i, dz_g, dz_o], axis=1)"), ("dz_f", "df * f")],
            [
                ("(13) to (16)", "dz", "the blocks of i and f are swapped"),
                ("(14)", "dz_f", "the factor 1 - f is missing (as in f (1 - f), the derivative of σ)"),
            ],
        ),
        (
            [("dc", "dc_next"), ("dc_prev", "dc")],
            [("(8)", "dc", "the term dh o (1 - tanh_c²) is missing"), ("(12)", "dc_prev", "the factor f is missing")],
        ),
        (
            [("di", "dc_next * g"), ("df", "dc_next * c_prev"), ("dg", "dc_next * i")],
            [("(9) to (11)", "di, df, dg", "you have dc_next where dc belongs")],
        ),
        (
            [("dc", "dh * o * phi_prime(tanh_c)"), ("dc_prev", "(dc_next + dc) * f")],
            [("(9) to (11)", "di, df, dg", "in dc, the term dc_next is missing")],
        ),
        (
            [("dz", "xp.concat([dz_i, dz_f, dz_g, dz_o], axis=1) / len(dh)")],
            [("(7) to (16)", "dz", "right for one sample, wrong for several: it is divided by 3, the batch size")],
        ),
    ],
)
def test_findings(mistakes, expected):
    assert explain_step(built(*mistakes)) == [diagnosis.Finding(*each) for each in expected]


@pytest.mark.parametrize(("a", "b"), [*itertools.combinations(["i", "f", "g", "o", "c_prev", "tanh_c"], 2)])
def test_two_names_that_are_swapped_are_one_mistake(a, b):
    def backward(dh, dc_next, cache, W, U):
        swapped = cache._replace(**{a: getattr(cache, b), b: getattr(cache, a)})
        return gates.lstm_step_backward(dh, dc_next, swapped, W, U)

    text = f"{a} and {b} are swapped everywhere, as if the cache was unpacked in another order"
    assert explain_step(backward) == [diagnosis.Finding("(7) to (16)", "dz", text)]


def test_gradients_by_name_and_what_changes_its_inputs():
    def backward(dh, dc_next, cache, W, U):
        gradients = gates.lstm_step_backward(dh, dc_next, cache, W, U)._asdict()
        dh *= 0
        W *= 0
        return gradients | {"dx": -gradients["dx"]}

    assert explain_step(backward) == [diagnosis.Finding("(17)", "dx", "the sign is wrong")]


def test_what_is_not_known_is_said():
    rng = np.random.default_rng(0)

    def backward(dh, dc_next, cache, W, U):
        return [rng.normal(size=np.shape(each)) for each in gates.lstm_step_backward(dh, dc_next, cache, W, U)[:6]]

    assert explain_step(backward)[0] == diagnosis.Finding("(7) to (21)", "dz", "")


def test_one_sample_without_a_bias():
    """As it is seen through a layer: the gradients of one sample at one step, and nothing else."""
    step = {name: array if name in "WUb" else array[:1] for name, array in KNOWN.items()}
    gradients = built(("dz_g", "dg * g"))(step["dh"], step["dc_next"], diagnosis._cache(step), W, U)
    found = {name: getattr(gradients, name) for name in ("dx", "dh_prev", "dc_prev")}
    found |= {name: getattr(gradients, name)[None] for name in ("dW", "dU")}
    text = "you have g where 1 - g² belongs, the derivative of tanh"
    assert wrong_equations(found, step) == [diagnosis.Finding("(15)", "dz_g", text)]
