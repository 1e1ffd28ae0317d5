"""Layers with Keras' names, arguments and defaults."""

from scratchlstm.layers.activation import Activation
from scratchlstm.layers.base import Layer
from scratchlstm.layers.dense import Dense
from scratchlstm.layers.dropout import Dropout
from scratchlstm.layers.embedding import Embedding
from scratchlstm.layers.input import Input
from scratchlstm.layers.lstm import LSTM

__all__ = ["LSTM", "Activation", "Dense", "Dropout", "Embedding", "Input", "Layer"]
