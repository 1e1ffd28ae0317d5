"""What each output of a model is trained for: losses, their weights, and metrics."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from scratchlstm import backend, losses, metrics
from scratchlstm._support import checks
from scratchlstm.backend import Array
from scratchlstm.losses import Loss
from scratchlstm.metrics import Metric


class LossMean(Metric):
    """The mean of one output's loss over the samples of all batches, as Keras reports it in eager mode."""

    direction = "min"
    on_gpu: ClassVar[bool] = True

    def of_batch(self, loss: Any, samples: int, rows: int) -> Any:
        """The value for `add`.

        Args:
            loss: the loss of a batch, or the share of some of its rows.
            samples: number of samples in the batch.
            rows: number of samples this loss is for.
        """
        total = loss * float(samples)
        return np.stack([total, np.full_like(total, rows)])


class Target:
    """The training target of an output.

    Args:
        name: name of the output.
        loss: the loss, or None.
        weight: weight of the loss in the total loss.
        metrics: metrics of the output.

    Attributes:
        measured: everything measured of this output, by its name in the logs.
    """

    def __init__(self, name: str, loss: Loss | None, weight: float, metrics: list[Metric]) -> None:
        self.name, self.loss, self.weight, self.metrics = name, loss, weight, metrics
        self.measured: dict[str, Metric] = {}

    @property
    def wants_data(self) -> bool:
        """Whether the output is compared with targets at all."""
        return self.loss is not None or bool(self.metrics)

    def measure(self, y_true: Any, y_pred: Array, mask: Any, loss: Any, samples: int) -> dict[str, Any]:
        """The sums over a batch, or some of its rows, by name.

        Args:
            y_true, y_pred, mask: for these rows.
            loss, samples: see `LossMean.of_batch`.
        """
        found: dict[str, Any] = {}
        if not self.measured:
            return found
        there = backend.beside(y_pred, y_true), y_pred
        here = there if all(m.on_gpu for m in self.metrics) else (backend.host(y_true), backend.host(y_pred))
        for name, metric in self.measured.items():
            if isinstance(metric, LossMean):
                found[name] = metric.of_batch(loss, samples, y_pred.shape[0])
            else:
                masked = {"mask": mask} if metric.uses_mask else {}
                found[name] = metric.measure(*(there if metric.on_gpu else here), **masked)
        return found


def targets(names: Sequence[str], loss: Any, loss_weights: Any, chosen: Any) -> list[Target]:
    """The arguments of `compile`, for each output.

    Args:
        names: names of the outputs.
        loss, loss_weights, chosen: the arguments `loss`, `loss_weights` and `metrics` of `compile`.

    Raises:
        TypeError, ValueError: naming the argument and what is wrong with it.
    """
    one_for_all = not isinstance(loss, Mapping | list | tuple)
    of_outputs = [loss] * len(names) if one_for_all else by_output("loss", loss, names, names)
    if all(each is None for each in of_outputs):
        given = "is missing" if one_for_all else "is None for every output"
        raise ValueError(f'loss {given}; for yes-or-no labels it is "binary_crossentropy"')
    found = [None if each is None else losses.get(each) for each in of_outputs]
    with_loss = [name for name, each in zip(names, found, strict=True) if each is not None]
    if not isinstance(loss_weights, Mapping | list | tuple):
        loss_weights = [loss_weights] * len(names)
    weights = by_output("loss_weights", loss_weights, names, with_loss)
    weights = [1.0 if weight is None else checks.number("each of loss_weights", weight) for weight in weights]
    if chosen is None or (len(names) == 1 and not isinstance(chosen, Mapping)):
        chosen = [chosen] * len(names)
    elif not isinstance(chosen, Mapping | list | tuple):
        wanted = "a list with the metrics of each output, or a dict of them by the outputs' names"
        raise TypeError(f"metrics of several outputs must be {wanted}, not {checks.came(chosen)}")
    of_outputs = list(map(_metrics, by_output("metrics", chosen, names, ())))
    if len({id(metric) for own in of_outputs for metric in own}) < sum(map(len, of_outputs)):
        raise ValueError("metrics has the same object twice, which would add up both: make one for each")
    made = [Target(*of_output) for of_output in zip(names, found, weights, of_outputs, strict=True)]
    _name(made)
    return made


def by_output(argument: str, given: Any, names: Sequence[str], needed: Collection[str]) -> list[Any]:
    """The entry for each name, from a list in their order or a dict by name; None if it has none.

    Args:
        argument: its name.
        given: the list or dict.
        names: names of the outputs (or the inputs).
        needed: the names a dict must have.

    Raises:
        ValueError: a list of the wrong length, or a dict with other names.
    """
    shown = ", ".join(map(repr, names))
    if not isinstance(given, Mapping):
        if len(given) != len(names):
            raise ValueError(f"{argument} must have one entry for each of {shown}, but has {len(given)}")
        return list(given)
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"{argument} names {unknown[0]!r}, but there are {shown}")
    if missing := [name for name in needed if name not in given]:
        wanted = ", ".join(map(repr, needed))
        raise ValueError(f"{argument} has no entry for {missing[0]!r}, but needs one for each of {wanted}")
    return [given.get(name) for name in names]


def _metrics(identifiers: Any) -> list[Metric]:
    identifiers = [] if identifiers is None else identifiers
    identifiers = [identifiers] if isinstance(identifiers, str | Metric) else identifiers
    if not isinstance(identifiers, list | tuple):
        raise TypeError(f"metrics must be a list of names or Metric objects, not {checks.came(identifiers)}")
    chosen = [metrics.get(identifier) for identifier in identifiers]
    names = [metric.name for metric in chosen]
    if len(set(names)) < len(names) or "loss" in names:
        raise ValueError(f'metrics need different names, other than "loss"; got {", ".join(names)}')
    return chosen


def _name(made: Sequence[Target]) -> None:
    """Name what is measured in the logs, as Keras does: with several outputs, names begin with the output's."""
    taken = {"loss"}
    report_losses = sum(target.loss is not None for target in made) > 1
    for target in made:
        own: list[tuple[str, Metric]] = [(metric.name, metric) for metric in target.metrics]
        own += [("loss", LossMean())] if report_losses and target.loss is not None else []
        for name, metric in own:
            first = f"{target.name}_{name}" if len(made) > 1 else name
            numbered = (f"{first}_{number}" for number in itertools.count(1))
            key = next(key for key in itertools.chain([first], numbered) if key not in taken)
            taken.add(key)
            target.measured[key] = metric
