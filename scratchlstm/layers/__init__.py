"""Layers, with the names, arguments and defaults of Keras."""

from scratchlstm.cells import GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells
from scratchlstm.layers.activation import Activation
from scratchlstm.layers.attention import Attention
from scratchlstm.layers.base import KNOWN, Layer
from scratchlstm.layers.dense import Dense
from scratchlstm.layers.dropout import Dropout, SpatialDropout1D, WordDropout
from scratchlstm.layers.embedding import Embedding
from scratchlstm.layers.gru import GRU
from scratchlstm.layers.input import Input
from scratchlstm.layers.lstm import LSTM
from scratchlstm.layers.masking import Masking
from scratchlstm.layers.merging import Add, Concatenate, Dot, Multiply
from scratchlstm.layers.network import Network
from scratchlstm.layers.normalization import LayerNormalization
from scratchlstm.layers.pooling import GlobalAveragePooling1D, GlobalMaxPooling1D, MaskedGlobalMaxPooling1D
from scratchlstm.layers.reshaping import Flatten, RepeatVector, Reshape
from scratchlstm.layers.rnn import RNN
from scratchlstm.layers.simple_rnn import SimpleRNN
from scratchlstm.layers.wrappers import Bidirectional, TimeDistributed

__all__ = [
    "GRU", "LSTM", "RNN", "Activation", "Add", "Attention", "Bidirectional", "Concatenate", "Dense", "Dot", "Dropout",
    "Embedding", "Flatten", "GRUCell", "GlobalAveragePooling1D", "GlobalMaxPooling1D", "Input", "LSTMCell", "Layer",
    "LayerNormalization", "MaskedGlobalMaxPooling1D", "Masking", "Multiply", "Network", "RepeatVector", "Reshape",
    "SimpleRNN", "SimpleRNNCell", "SpatialDropout1D", "StackedRNNCells", "TimeDistributed", "WordDropout",
]  # fmt: skip

KNOWN.update({name: globals()[name] for name in __all__ if name not in ("Input", "Layer") and "Cell" not in name})
