"""The same model in Keras, with the same weights."""

from typing import TYPE_CHECKING, Any

from scratchlstm import registry
from scratchlstm.layers import Layer

if TYPE_CHECKING:
    from scratchlstm.model import Model

_OURS_ALONE = ("implementation",)  # settings that Keras' layers do not have


def to_keras(model: "Model") -> Any:
    """A `keras.Sequential` of the same layers, dtypes and weights, for comparison.

    Raises:
        ImportError: Keras is not installed.
        ValueError: the model is not built.
    """
    import keras

    if not model.is_stack:
        raise ValueError("a Model with branches has no Keras twin here; only a stack of layers has")
    if not model.built:
        raise ValueError("the model has no parameters yet: state an input_shape, or call build first")
    twin = keras.Sequential([keras.Input(model.input_shape), *(layer_to_keras(layer) for layer in model.layers)])
    twin.set_weights(model.get_weights())
    return twin


def layer_to_keras(layer: Layer) -> Any:
    """The Keras layer with the same settings, without the weights."""
    import keras

    config = {name: value for name, value in layer.get_config().items() if name not in _OURS_ALONE}
    return getattr(keras.layers, type(layer).__name__).from_config(
        {name: _initializer(value) if name.endswith("_initializer") else value for name, value in config.items()}
    )


def _initializer(saved: dict[str, Any]) -> str:
    return registry.snake_case(saved["class_name"])  # the weights are copied, so the settings do not matter
