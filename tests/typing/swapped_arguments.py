"""What the type checker has to see: it runs on this file, and an ignored error that it does not find is an error."""

from typing import Any

from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GRUCell,
    Layer,
    LSTMCell,
    SimpleRNN,
)
from scratchlstm.layers.passes import Pass

right: list[Layer] = [
    LSTM(3, "tanh", "sigmoid", return_sequences=True, dropout=0.5, name="lstm", input_shape=(None, 4)),
    SimpleRNN(3, go_backwards=True, seed=0, dtype="float64"),
    GRU(3, "tanh", "sigmoid", reset_after=False, return_state=True, recurrent_dropout=0.5),
    RNN(LSTMCell(3, unit_forget_bias=False, dropout=0.5), return_sequences=True, name="rnn"),
    RNN([LSTMCell(3), GRUCell(2, "relu")], go_backwards=True),
    Bidirectional(LSTM(3), merge_mode=None, name="both"),
    Embedding(10, 4, mask_zero=True, input_length=5, name="words"),
    Dense(1, "sigmoid", kernel_regularizer="l2", input_shape=(4,)),
    Dropout(0.5, seed=1),
]
swapped: list[Any] = [
    LSTM("tanh", 3),  # type: ignore[arg-type]
    LSTM(3, return_sequences=0.5, dropout=0.5),  # type: ignore[arg-type]
    LSTM(3, dropout="lstm", name="lstm"),  # type: ignore[arg-type]
    LSTM(3, implementation=True, stateful=True),  # type: ignore[arg-type]
    LSTM(3, return_sequence=True),  # type: ignore[call-arg]
    SimpleRNN(3, seed="float64", dtype="float64"),  # type: ignore[arg-type]
    GRU(3, reset_after="after"),  # type: ignore[arg-type]
    GRU(3, unit_forget_bias=True),  # type: ignore[call-arg]
    GRUCell(3, return_sequences=True),  # type: ignore[call-arg]
    LSTMCell("tanh", 3),  # type: ignore[arg-type]
    RNN(LSTMCell(3), stateful=0.5),  # type: ignore[arg-type]
    RNN(LSTMCell(3), dropout=0.5),  # type: ignore[call-arg]
    Dense(1, input_shape=4),  # type: ignore[arg-type]
    Dropout("dropout"),  # type: ignore[arg-type]
    Pass(rows=3),  # type: ignore[arg-type]
]
