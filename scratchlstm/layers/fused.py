"""Recurrent layers with fast implementations next to the textbook one, and the choice between them."""

from typing import Any, ClassVar, Unpack
from weakref import WeakSet

from scratchlstm._support import compiled
from scratchlstm._support.checks import one_of
from scratchlstm._support.console import warn
from scratchlstm.activations import SIGMOID, TANH, Activation
from scratchlstm.backend import Array
from scratchlstm.cells.scan import Scan, States
from scratchlstm.layers.base import TENSORFLOWS_LOOP
from scratchlstm.layers.passes import Pass
from scratchlstm.layers.rnn import Part, SequenceOptions, StateGradients, WithOwnCell
from scratchlstm.rows import GatheredRows

IMPLEMENTATIONS = ("fused", "compiled", "numpy", "textbook")


class Fused(WithOwnCell):
    """The base class of `LSTM` and `GRU`.

    Attributes:
        implementation: "textbook" runs the cell in a plain loop, "numpy" runs `numpy_kernel`, "compiled" the loops of
            `compiled_kernel`, and "fused" the fastest of them available.
        on_gpu: what runs fast on a GPU, for the warning.
    """

    takes_rows: ClassVar = True
    on_gpu: ClassVar[str]
    recurrent_activation: Activation

    def __init__(self, cell: Any, implementation: str, **options: Unpack[SequenceOptions]) -> None:
        super().__init__(cell, **options)
        if isinstance(implementation, int):
            choices = ", ".join(f'"{name}"' for name in IMPLEMENTATIONS)
            raise ValueError(f"implementation must be one of {choices}, not {implementation}: {TENSORFLOWS_LOOP}")
        self.implementation = one_of("implementation", implementation, IMPLEMENTATIONS)

    @property
    def runs(self) -> str:
        """What `implementation` amounts to on this machine: "textbook", "numpy", "compiled", or "cuda".

        "cuda" is the kernel on a GPU; passes it does not support run the textbook functions there.

        Raises:
            ImportError: "compiled" was requested but Numba is not usable.
            ValueError: "compiled" or "numpy" was requested but the layer is on a GPU.
        """
        chosen = self.implementation
        if chosen == "textbook":
            return "textbook"
        if self.backend == "cupy":
            if chosen != "fused":
                raise ValueError(
                    f'{self.name} has implementation="{chosen}", which runs on the CPU; on a GPU, use "fused"'
                )
            return "cuda"
        if chosen == "numpy" or (self.activation, self.recurrent_activation) != (TANH, SIGMOID):
            return "numpy"
        if chosen == "compiled":
            compiled.require(f'{self.name} has implementation="compiled", which')
        return "numpy" if compiled.missing() else "compiled"

    def kernel(self, part: Part) -> Any:
        """The fast kernel for a pass on this backend; None if these settings have none."""
        runs = self.runs
        if runs == "cuda":
            return self.cuda_kernel(part)
        kind = self.compiled_kernel() if runs == "compiled" else self.numpy_kernel()
        activations = self.activation, self.recurrent_activation
        return kind(*part.params, *activations, self.go_backwards, part.by_block, part.recurrent_dropout)

    def numpy_kernel(self) -> Any:
        """The NumPy kernel: a class, or a function with the same arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define numpy_kernel")

    def compiled_kernel(self) -> Any:
        """The same for the compiled kernel, imported on first use."""
        raise NotImplementedError(f"{type(self).__name__} must define compiled_kernel")

    def cuda_kernel(self, part: Part) -> Any:
        """The GPU kernel; None if these settings have none."""
        return None

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
        """The kernel to run; None if the textbook was chosen or is the only option."""
        kernel = None if self.runs == "textbook" else self.kernel(part)
        if kernel is None and self.runs == "cuda" and self not in _told:
            _told.add(self)
            warn(f"{self.name} runs the textbook implementation on the GPU, step by step: {self.on_gpu}")
        return kernel


_told: WeakSet[Fused] = WeakSet()  # layers that already warned about falling back to the textbook
