"""The table that `Model.summary` prints, laid out as Keras 3 does."""

from collections.abc import Sequence

from scratchlstm.layers import Layer

_WIDTHS = (33, 24, 15)  # of the three columns, as Keras draws them by default
_COLUMNS = ("Layer (type)", "Output Shape", "Param #")


def table(name: str, layers: Sequence[Layer], shapes: Sequence[str]) -> str:
    """The whole table.

    Args:
        name: of the model.
        layers: its layers.
        shapes: each one's output shape, as text; "?" where not built.
    """
    name, rows = _plain(name), []
    for layer, shape in zip(layers, shapes, strict=True):
        count = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
        rows.append(_row((_fit(layer), shape, count), "│"))
    total = sum(layer.count_params() for layer in layers)
    size = _size(sum(param.nbytes for layer in layers for param in layer.params.values()))
    return "\n".join(
        [
            f'Model: "{name}"',
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


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.2f} {unit}"
