"""The table that `Model.summary` prints, laid out as Keras 3 does."""

from collections.abc import Sequence
from typing import Any

from scratchlstm.layers import Layer
from scratchlstm.layers.network import Network
from scratchlstm.layers.weights import with_batch

_WIDTHS = (33, 24, 15)  # of the three columns, as Keras draws them by default
_COLUMNS = ("Layer (type)", "Output Shape", "Param #")


def table(network: Network) -> str:
    """The whole table."""

    def shape_after(layer: Layer, shape: Any, states: Any) -> Any:
        known = layer.built and None not in (shape if isinstance(shape, list) else [shape])
        return layer.output_shape(shape) if known else [None] * layer.outputs if layer.outputs > 1 else None

    shapes = network.along(network.input_shapes if network.merges else network.input_shapes[0], shape_after)
    first = {id(place.layer): number for number, place in reversed(list(enumerate(network.places)))}
    rows = []
    for layer in network.layers:
        of_layer = [shapes[first[id(layer)], output] for output in range(layer.outputs)]
        each = ["?" if shape is None else with_batch(shape) for shape in of_layer]
        shown = each[0] if len(each) == 1 else f"[{', '.join(each)}]"
        count = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
        rows.append(_row((_fit(layer), shown, count), "│"))
    total, size = network.count_params(), _size(sum(param.nbytes for param in network.params.values()))
    return "\n".join(
        [
            f'Model: "{_plain(network.name)}"',
            _rule("┏━┳┓"),
            _row(_COLUMNS, "┃"),
            _rule("┡━╇┩"),
            f"\n{_rule('├─┼┤')}\n".join(rows),
            _rule("└─┴┘"),
            f" Total params: {total:,} ({size})",
            f" Trainable params: {total:,} ({size})",
            " Non-trainable params: 0 (0.00 B)",
        ]
    )


def _rule(pieces: str) -> str:
    left, line, middle, right = list(pieces)
    return left + middle.join(line * width for width in _WIDTHS) + right


def _row(cells: Sequence[str], edge: str) -> str:
    first, second, third = (width - 2 for width in _WIDTHS)
    return f"{edge} {cells[0]:<{first}} {edge} {cells[1]:<{second}} {edge} {cells[2]:>{third}} {edge}"


def _fit(layer: Layer) -> str:
    kind = f" ({type(layer).__name__})"
    room = _WIDTHS[0] - 2 - len(kind)
    name = _plain(layer.name)
    return (name if len(name) <= room else name[: room - 1] + "…") + kind


def _plain(name: str) -> str:
    """A name, which may come from a file, without what steers a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _size(count: int) -> str:
    power = min((max(count, 1).bit_length() - 1) // 10, 3)
    return f"{count / 1024**power:.2f} {('B', 'KB', 'MB', 'GB')[power]}"
