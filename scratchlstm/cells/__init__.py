"""Recurrent cells written by hand, one per file; `RNN(cell)` runs one over a sequence."""

from scratchlstm.cells.ablations import (
    NoForgetGateLSTMCell,
    NoInputActivationLSTMCell,
    NoInputGateLSTMCell,
    NoOutputActivationLSTMCell,
    NoOutputGateLSTMCell,
)
from scratchlstm.cells.base import Cell, GatedCell
from scratchlstm.cells.coupled import CoupledLSTMCell
from scratchlstm.cells.full_gate_recurrence import FullGateLSTMCell
from scratchlstm.cells.gru import GRUCell
from scratchlstm.cells.layer_norm import LayerNormLSTMCell
from scratchlstm.cells.lstm import LSTMCell
from scratchlstm.cells.min_gru import MinGRUCell
from scratchlstm.cells.min_lstm import MinLSTMCell
from scratchlstm.cells.minimal_gated import MGUCell
from scratchlstm.cells.peephole import PeepholeLSTMCell
from scratchlstm.cells.projected import ProjectedLSTMCell
from scratchlstm.cells.simple_rnn import SimpleRNNCell
from scratchlstm.cells.stacked import KNOWN, StackedRNNCells

__all__ = [
    "Cell", "CoupledLSTMCell", "FullGateLSTMCell", "GRUCell", "GatedCell", "LSTMCell", "LayerNormLSTMCell", "MGUCell",
    "MinGRUCell", "MinLSTMCell", "NoForgetGateLSTMCell", "NoInputActivationLSTMCell", "NoInputGateLSTMCell",
    "NoOutputActivationLSTMCell", "NoOutputGateLSTMCell", "PeepholeLSTMCell", "ProjectedLSTMCell", "SimpleRNNCell",
    "StackedRNNCells",
]  # fmt: skip

KNOWN.update({name: globals()[name] for name in __all__ if name not in ("Cell", "GatedCell")})
