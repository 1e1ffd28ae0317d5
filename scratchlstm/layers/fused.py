"""A recurrent layer with a fast recurrence beside the textbook's: which of the two runs a pass."""

from typing import Any, ClassVar, Unpack
from weakref import WeakSet

from scratchlstm._support.checks import one_of
from scratchlstm._support.console import warn
from scratchlstm.activations import Activation
from scratchlstm.backend import Array
from scratchlstm.cells.scan import Scan, States
from scratchlstm.layers.base import TENSORFLOWS_LOOP
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.rnn import Part, SequenceOptions, StateGradients, WithOwnCell
from scratchlstm.rows import GatheredRows

IMPLEMENTATIONS = ("fused", "textbook")


class Fused(WithOwnCell):
    """What `LSTM` and `GRU` share.

    Attributes:
        implementation: "fused" runs `kernel`, "textbook" the cell in the plain loop.
        on_gpu: what the GPU can run fast, for the warning.
    """

    takes_rows: ClassVar = True
    on_gpu: ClassVar[str]
    recurrent_activation: Activation

    def __init__(self, cell: Any, implementation: str, **options: Unpack[SequenceOptions]) -> None:
        super().__init__(cell, **options)
        if isinstance(implementation, int):
            raise ValueError(f'implementation must be "fused" or "textbook", not {implementation}: {TENSORFLOWS_LOOP}')
        self.implementation = one_of("implementation", implementation, IMPLEMENTATIONS)

    def kernel(self, part: Part) -> Any:
        """The fast recurrence for a pass, on this backend; None if there is none for these settings."""
        raise NotImplementedError(f"{type(self).__name__} has to define kernel")

    def scan(self, part: Part, run: Pass) -> tuple[Array, States, Any]:
        kernel = self._chosen(part)
        if kernel is None:
            return super().scan(part, run)
        B, T, _ = part.x.shape
        workspace = run.workspace(kernel.memory, T, B, self.units, part.x.dtype)
        return *kernel.forward(part.x, part.states, workspace, self.return_sequences, part.mask), kernel

    def scan_back(self, dh: Array, d_states: StateGradients, part: Part, need: bool) -> tuple[Any, States, States]:
        if isinstance(part.steps, Scan):
            return super().scan_back(dh, d_states, part, need)
        dx, grads, d_initial = part.steps.backward(dh, d_states, need, self.trainable)
        return part.x.gradient(dx) if need and isinstance(part.x, GatheredRows) else dx, grads, d_initial

    def scan_only(self, part: Part) -> tuple[Array, States]:
        kernel = self._chosen(part)
        if kernel is None:
            return super().scan_only(part)
        return kernel.infer(part.x, part.states, self.return_sequences, part.mask)

    def _chosen(self, part: Part) -> Any:
        """The kernel; None if the textbook was chosen, or is the only one."""
        kernel = None if self.implementation == "textbook" else self.kernel(part)
        if kernel is None and self.implementation == "fused" and self not in _told:
            _told.add(self)
            warn(f"{self.name} runs the textbook's functions on the GPU, step by step: {self.on_gpu}")
        return kernel


_told: WeakSet[Fused] = WeakSet()  # layers that have said that they fall back to the textbook
