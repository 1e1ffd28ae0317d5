"""Check gradients: analytic against numerical, tensor by tensor, and against TensorFlow.

A check sees a bug only if the bug has an effect: it needs inputs of several steps, random nonzero states, and a
gradient at every step and at the final states. (With zero states and a gradient only at the last step, as in training a
classifier, an LSTM that overwrites dh instead of adding to it passes.) `check_layer` sets this up.

Checks run in float64: in float32, central differences are accurate to about 1e-5 at best, too coarse to tell a small
mistake from rounding.
"""

from scratchlstm.gradcheck.functions import check_functions
from scratchlstm.gradcheck.layer import LayerLike, check_layer
from scratchlstm.gradcheck.model import check_model
from scratchlstm.gradcheck.numerical import EPSILON, numerical_gradient, relative_error
from scratchlstm.gradcheck.report import TOLERANCE, Report, Row
from scratchlstm.gradcheck.small import reports_in_small

__all__ = [
    "EPSILON", "TOLERANCE", "LayerLike", "Report", "Row", "check_functions", "check_layer", "check_model",
    "numerical_gradient", "relative_error", "reports_in_small",
]  # fmt: skip
