"""docs/variants.md, equation by equation: each numbered line of a cell is the slope it claims to be; no mistake hides.

L = Σ d(state) · state for a random d(state) of each new state. A line `dq = ...` of `backward` is the slope of L with
respect to q: q is nudged as soon as `forward` has computed it, and the rest follows from there. To do so, `nudged` and
`seen` are inserted after the assignments in the source of the two functions. The mistakes are made in the source, too:
in each numbered line a factor or a term is dropped, a sign turned, or a slope replaced by the value it is taken at.
"""

import ast
import copy
import inspect
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from scratchlstm import cells, gradcheck
from scratchlstm.cells.stacked import KNOWN
from scratchlstm.layers import RNN

OPTIONS = {"GRUCell": [{}, {"reset_after": False}]}  # a cell with several forms
ELSEWHERE = {
    "LayerNormLSTMCell",
    "ProjectedLSTMCell",
    "StackedRNNCells",
}  # they call other functions: test_more_cells.py
CASES = {
    f"{name}{options or ''}": (cls, options)
    for name, cls in KNOWN.items()
    if name not in ELSEWHERE
    for options in OPTIONS.get(name, [{}])
}
LABEL = re.compile(r"^ +(\w+) = .*# .*\((\w?\d+)\)$")


class Traced(ast.NodeTransformer):
    """Each name that is assigned goes through a function: `q = f("q", q)`."""

    def __init__(self, function):
        self.function = function

    def visit_Assign(self, node):
        names = [each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)]
        return [node, *ast.parse("\n".join(f"{name} = {self.function}({name!r}, {name})" for name in names)).body]


def source(method):
    return textwrap.dedent(inspect.getsource(method))


def labels(cls):
    """Name of the gradient -> number of its line in the cell's `backward`."""
    return dict(found.groups() for line in source(cls.backward).splitlines() if (found := LABEL.match(" " + line)))


def compiled(method, tree, **more):
    """The function that the tree defines, with the names that its file knows."""
    scope = vars(sys.modules[method.__module__]) | more
    exec(compile(ast.fix_missing_locations(ast.Module(tree.body, [])), method.__qualname__, "exec"), scope)
    return scope[method.__name__]


class Step:
    """One step of a cell with random values, forward with nudges and backward with what was computed on the way."""

    def __init__(self, cls, options, B=2, E=3, H=2):
        rng = np.random.default_rng(0)
        self.cls, self.cell = cls, cls(H, **options)
        self.d_states = [rng.normal(size=(B, size)) for size in self.cell.state_sizes.values()]
        sizes = {f"{state}_prev": size for state, size in self.cell.state_sizes.items()}
        sizes |= {"x": E, "h_in": self.cell.output_size}
        params = dict(zip(cls.params, self.cell.param_specs(E).values(), strict=True))
        shapes = {name: params[name][0] if name in params else (B, sizes[name]) for name in cls.arguments}
        self.given = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        self.nudges, self.values = dict.fromkeys(self.given, 0), {}
        self.forward = compiled(cls.forward, Traced("nudged").visit(ast.parse(source(cls.forward))), nudged=self.nudged)

    def nudged(self, name, value):
        if isinstance(value, Mapping):  # of blocks by name
            return {key: self.nudged(f"{name}_{key}", each) for key, each in value.items()}
        if isinstance(value, np.ndarray):
            self.values[name] = value
            return value + self.nudges.get(name, 0)
        return value

    def loss(self):
        given = (value + self.nudges[name] for name, value in self.given.items())
        *states, self.cache = self.forward(self.cell, *given)
        return sum(float(np.sum(d * state)) for d, state in zip(self.d_states, states, strict=True))

    def slope(self, name):
        """dL/d(name) by central differences; 0 of what this cell does not compute."""
        self.loss()
        shape, numerical = np.shape((self.given | self.values).get(name, 0.0)), {}
        for place in np.ndindex(shape):
            nudge = np.zeros(shape)
            for sign in (1, -1):
                nudge[place] = sign * 1e-5
                self.nudges[name] = nudge
                numerical[place, sign] = self.loss()
        self.nudges[name] = 0
        return np.reshape([(numerical[p, 1] - numerical[p, -1]) / 2e-5 for p in np.ndindex(shape)], shape)

    def gradients(self, tree=None):
        """What `backward`, or another one, returns, and all that it computes, by name."""
        found = {}

        def seen(name, value):
            found[name] = value
            return value

        tree = Traced("seen").visit(copy.deepcopy(tree) if tree else ast.parse(source(self.cls.backward)))
        backward = compiled(self.cls.backward, tree, seen=seen)
        self.loss()
        returned = backward(self.cell, *self.d_states, self.cache, *(self.given[name] for name in self.cls.params))
        returned = returned if isinstance(returned, Mapping) else returned._asdict()
        return returned, found | dict(returned)


def wrong(analytic, numerical):
    return not np.allclose(analytic, numerical, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_each_line_is_the_slope_it_claims_to_be(case):
    step = Step(*CASES[case])
    _, found = step.gradients()
    names = [name for name in labels(step.cls) if name in found]  # without those of the cell's other form
    for name in [*names, *(f"d{argument}" for argument in step.cls.arguments)]:
        np.testing.assert_allclose(found[name], step.slope(name[1:]), rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("letter", "module"),
    [("G", "gru"), ("P", "peephole"), ("C", "coupled"), ("A", "ablations"), ("F", "full_gate_recurrence")],
)
def test_the_page_has_every_equation_of_the_code_in_order(letter, module):
    root = Path(__file__).parents[2]
    page = (root / "docs" / "variants.md").read_text(encoding="utf-8")
    tags = re.findall(rf"\\tag\{{({letter}\d+)\}}", page)
    in_code = re.findall(rf"\(({letter}\d+)\)$", inspect.getsource(getattr(cells, module)), re.MULTILINE)
    assert tags == [f"{letter}{number + 1}" for number in range(len(tags))]
    assert tags == sorted(in_code, key=lambda label: int(label[1:]))


def recurrent(cls, options, **of_layer):
    """The cell in a layer with random parameters, and an input."""
    rng = np.random.default_rng(1)
    layer = RNN(cls(2, **options), return_sequences=True, return_state=True, dtype="float64", **of_layer)
    layer.build((3, 3), rng)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer, rng.normal(size=(2, 3, 3))


@pytest.mark.parametrize("case", CASES)
def test_central_differences_with_dropout_and_a_mask(case):
    cls, options = CASES[case]
    dropout = {"dropout": 0.3, "recurrent_dropout": 0.4} if "h_in" in cls.arguments else {"dropout": 0.3}
    layer, x = recurrent(cls, options | dropout | {"seed": 0})
    mask = np.array([[1, 0, 1], [0, 1, 1]], bool)
    report = gradcheck.check_layer(layer, x, mask=mask, training=True)
    assert report.ok, report


# --- mistakes ---------------------------------------------------------------------------------------------------------


def others(node):
    """What could be there instead of an expression by mistake."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Add | ast.Sub):
        yield from (node.left, node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield ast.BinOp(node.left, ast.Sub() if isinstance(node.op, ast.Add) else ast.Add(), node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.MatMult):
        yield ast.UnaryOp(ast.USub(), node)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("_prime"):
        yield node.args[0]


def parts(node):
    """The expressions in an expression, without those that are indices."""
    if not isinstance(node, ast.Slice):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from parts(child)


class Replaced(ast.NodeTransformer):
    """One expression replaced by another."""

    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


def mistakes(cls):
    """(name of the gradient whose line is wrong, that line, tree of the wrong `backward`)."""
    tree = ast.parse(source(cls.backward))
    for line in [each for each in ast.walk(tree) if isinstance(each, ast.Assign)]:
        name, right = ast.unparse(line.targets[0]), line.value
        for node in parts(right) if name in labels(cls) else []:
            for other in others(node):
                line.value = Replaced(node, other).visit(copy.deepcopy(right, {id(node): node, id(other): other}))
                yield name, ast.unparse(line), tree
        line.value = right


def slopes_once(monkeypatch):
    """Let `check_layer` compute its slopes once: no mistake is in `forward`, which all that it nudges depends on."""
    known, compute = {}, gradcheck.numerical_gradient

    def slopes(loss, array, epsilon):
        key = array.tobytes()
        if key not in known:
            known[key] = compute(loss, array, epsilon)
        return known[key]

    monkeypatch.setattr(gradcheck.numerical, "numerical_gradient", slopes)
    monkeypatch.setattr(RNN, "column_blocks", {})  # the search for the gate that is wrong would take longer


@pytest.mark.parametrize("case", CASES)
def test_every_mistake_in_a_line_is_seen(case, monkeypatch):
    """Under its number: the lines before it are right. And by `check_layer`."""
    cls, options = CASES[case]
    step, layer, x = Step(cls, options), *recurrent(cls, options)
    slopes_once(monkeypatch)
    assert gradcheck.check_layer(layer, x).ok
    right, _ = step.gradients()
    slopes = {name: step.slope(name[1:]) for name in labels(cls)}
    changed = set()
    for name, line, tree in mistakes(cls):
        returned, found = step.gradients(tree)
        if all(np.array_equal(returned[key], right[key]) for key in right):
            continue  # this form of the cell has no use for the line
        changed.add(name)
        assert next(each for each in found if each in slopes and wrong(found[each], slopes[each])) == name, line
        with monkeypatch.context() as patch:
            patch.setattr(cls, "backward", compiled(cls.backward, tree))
            assert not gradcheck.check_layer(layer, x).ok, line
    assert changed >= {f"dz_{block}" for block in cls.blocks} & set(labels(cls))
