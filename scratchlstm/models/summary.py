"""The table printed by `Model.summary`, laid out like that of Keras 3."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from scratchlstm._support import notebook
from scratchlstm.backend import Array
from scratchlstm.layers import Layer
from scratchlstm.layers.network import Network
from scratchlstm.layers.rnn import what_runs
from scratchlstm.layers.weights import with_batch

# column widths, Keras' defaults
_STACK = {"Layer (type)": 33, "Output Shape": 24, "Param #": 15}
_GRAPH = {"Layer (type)": 21, "Output Shape": 19, "Param #": 12, "Connected to": 19}
_IMPLEMENTATION = {"Implementation": 16}  # a column only we have
_MOST_LAYERS = 12  # the most a single line names


def line(kind: str, network: Network) -> str:
    """A network in one line: kind, name, layers, and number of parameters."""
    names = [type(layer).__name__ for layer in network.layers]
    if len(names) > _MOST_LAYERS:
        names[_MOST_LAYERS - 1 : -1] = ["..."]
    layers = (" -> " if network.is_stack else ", ").join(names) or "no layers yet"
    count = f"{network.count_params():,} parameters" if network.built else "not built"
    return f"<{kind} {_plain(network.name)}: {layers}; {count}>"


def table(network: Network, show_implementation: bool = False) -> str:
    """The whole table; unless the network is a stack, with its inputs and the sources of each layer's inputs."""
    columns = (_STACK if network.is_stack else _GRAPH) | (_IMPLEMENTATION if show_implementation else {})
    widths = list(columns.values())
    return "\n".join(
        [
            _title(network),
            _rule("┏━┳┓", widths),
            _row(list(columns), widths, "┃"),
            _rule("┡━╇┩", widths),
            f"\n{_rule('├─┼┤', widths)}\n".join(_row(row, widths, "│") for row in _rows(network, columns)),
            _rule("└─┴┘", widths),
            *(f" {count}" for count in _counts(network)),
        ]
    )


def html(network: Network) -> str:
    """The same as HTML for a notebook."""
    columns = list(_STACK if network.is_stack else _GRAPH)
    return notebook.table("\n".join([_title(network), *_counts(network)]), columns, _rows(network, columns))


def _title(network: Network) -> str:
    return f'Model: "{_plain(network.name)}"'


def _rows(network: Network, columns: Iterable[str]) -> list[list[str]]:
    """Each layer's entries for these columns, after those of the inputs if the network is not a stack."""

    def shape_after(layer: Layer, shape: Any, states: Any) -> Any:
        known = layer.built and None not in (shape if isinstance(shape, list) else [shape])
        return layer.output_shape(shape) if known else [None] * layer.outputs if layer.outputs > 1 else None

    shapes = network.along(network.input_shapes if network.merges else network.input_shapes[0], shape_after)
    rows = []
    for layer in network.layers:
        places = [number for number, place in enumerate(network.places) if place.layer is layer]
        each = [_shown(shapes[places[0], output]) for output in range(layer.outputs)]
        count = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
        name = _fit(layer) if network.is_stack else f"{_plain(layer.name)} ({type(layer).__name__})"
        sources = [_connection(network, *source) for number in places for source in network.places[number].sources]
        shape = each[0] if len(each) == 1 else f"[{', '.join(each)}]"
        runs = ", ".join(dict.fromkeys(runs for _, runs in what_runs(layer))) if "Implementation" in columns else ""
        rows.append([name, shape, count, ", ".join(sources), runs or "-"])
    if not network.is_stack:
        inputs = zip(network.input_names, network.input_shapes, strict=True)
        rows[:0] = [[f"{_plain(name)} (Input)", _shown(shape), "0", "-", "-"] for name, shape in inputs]
    wanted = [number for number, column in enumerate(_GRAPH | _IMPLEMENTATION) if column in columns]
    return [[row[number] for number in wanted] for row in rows]


def _counts(network: Network) -> list[str]:
    return [
        f"Total params: {_count(network.params.values())}",
        f"Trainable params: {_count(network.trainable_weights)}",
        f"Non-trainable params: {_count(network.non_trainable_weights)}",
    ]


def _shown(shape: Any) -> str:
    return "?" if shape is None else with_batch(shape)


def _connection(network: Network, number: int, output: int) -> str:
    """A source as Keras shows it: layer[index of its call][index of that call's output]."""
    if number < 0:
        return f"{_plain(network.input_names[-1 - number])}[0][0]"
    layer = network.places[number].layer
    return f"{_plain(layer.name)}[{sum(place.layer is layer for place in network.places[:number])}][{output}]"


def _rule(pieces: str, widths: Sequence[int]) -> str:
    left, line, middle, right = list(pieces)
    return left + middle.join(line * width for width in widths) + right


def _row(cells: Sequence[str], widths: Sequence[int], edge: str) -> str:
    """The lines of one row; long cells are wrapped between words and long words are cut."""
    columns = []
    for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        room = width - 2
        words = [word if len(word) <= room else f"{word[: room - 1]}…" for word in cell.split()]
        lines = textwrap.wrap(" ".join(words), room, break_on_hyphens=False)
        columns.append([f" {line:>{room}} " if number == 2 else f" {line:<{room}} " for line in lines])
    height = max(map(len, columns))
    filled = [lines + [" " * width] * (height - len(lines)) for lines, width in zip(columns, widths, strict=True)]
    return "\n".join(edge + edge.join(line) + edge for line in zip(*filled, strict=True))


def _fit(layer: Layer) -> str:
    kind = f" ({type(layer).__name__})"
    room = _STACK["Layer (type)"] - 2 - len(kind)
    name = _plain(layer.name)
    return (name if len(name) <= room else name[: room - 1] + "…") + kind


def _plain(name: str) -> str:
    """A name, which may come from a file, without terminal control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _count(params: Iterable[Array]) -> str:
    params = list(params)
    return f"{sum(param.size for param in params):,} ({_size(sum(param.nbytes for param in params))})"


def _size(count: int) -> str:
    power = min((max(count, 1).bit_length() - 1) // 10, 3)
    return f"{count / 1024**power:.2f} {('B', 'KB', 'MB', 'GB')[power]}"
