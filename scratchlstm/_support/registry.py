"""From a name to the thing: "adam", Adam, Adam(0.01) or a saved description all give an optimizer; and back."""

import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

from scratchlstm._support.checks import came

T = TypeVar("T")


def resolve(kind: str, identifier: Any, known: Mapping[str, Any], base: type[T], argument: str = "") -> T:
    """The object that `identifier` means.

    Args:
        kind: what is asked for, used in the error ("optimizer").
        identifier: a name in `known`, an object of class `base`, such a class itself, or a saved
            description `{"class_name": ..., "config": {...}}`.
        known: names and what they stand for: classes (called without arguments) or ready objects.
        base: the class of the result.
        argument: what the caller names it, if that is not `kind`.

    Raises:
        ValueError: unknown name; the known ones are listed.
        TypeError: anything else.
    """
    if isinstance(identifier, base):
        return identifier
    config = {}
    if isinstance(identifier, Mapping) and set(identifier) == {"class_name", "config"}:
        identifier, config = identifier["class_name"], identifier["config"]
    if isinstance(identifier, str):
        if identifier not in known:
            names = ", ".join(sorted(name for name in known if name == name.lower()) or sorted(known))
            where = f"{argument}: " if argument not in ("", kind) else ""
            raise ValueError(f"{where}unknown {kind} {identifier!r}. Known: {names}")
        identifier = known[identifier]
        if isinstance(identifier, base):
            return identifier
    if isinstance(identifier, type) and issubclass(identifier, base):
        make: Any = getattr(identifier, "from_config", None)
        return make(config) if make else identifier(**config)
    article = "an" if base.__name__[0] in "AEIOU" else "a"
    raise TypeError(f"{argument or kind} must be a name or {article} {base.__name__}, not {came(identifier)}")


class Configured:
    """A thing that its constructor's signature describes: each argument is an attribute of the same name."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments that make an equal object.

        For a user's subclass they are those of our class: what it adds is for its own `get_config`.
        """
        return {name: serialize(self.argument(name)) for name in arguments(self)}

    def argument(self, name: str) -> Any:
        """The constructor's argument of that name, as it is now."""
        return getattr(self, name)

    def description(self) -> Any:
        """See `serialize`."""
        cls = type(self)
        description = {"class_name": cls.__name__, "config": self.get_config()}
        return description if is_ours(cls) else description | {"foreign": cls.__module__}


def serialize(thing: Any) -> Any:
    """The description that `resolve` turns back into an equal object; what is not `Configured` as it is.

    That of the user's own class, which may have the name of one of ours, names its module and is refused by `resolve`.
    """
    return thing.description() if isinstance(thing, Configured) else thing


def arguments(thing: Any) -> list[str]:
    """Names of the arguments that make such a thing, those of the base class first."""
    classes = [cls for cls in type(thing).__mro__ if is_ours(cls) and cls not in (Configured, object)]
    ours = [defaults(cls) for cls in classes]
    known = dict.fromkeys(name for names in reversed(ours) for name in names)
    return [name for name in known if name in ours[0]]


def defaults(cls: type) -> dict[str, Any]:
    """A class's arguments and what they are if left out, `inspect.Parameter.empty` for one that is required.

    **options that a TypedDict describes are its keys: flags are False if left out, rates 0, all others None, unless
    `Annotated` states what they are.
    """
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        described = get_args(parameter.annotation) if parameter.kind is parameter.VAR_KEYWORD else ()
        options = described[0].__annotations__ if described else {}
        found |= {key: _left_out(of) for key, of in options.items()} or {name: parameter.default}
    return found


def _left_out(of: Any) -> Any:
    """See `defaults`."""
    return of.__metadata__[0] if get_origin(of) is Annotated else {bool: False, float: 0.0}.get(of)


def is_ours(cls: type) -> bool:
    """Whether it is a class of this package: one of the user's has equations that we do not know."""
    return cls.__module__.split(".")[0] == __name__.split(".")[0]


def foreign(description: Any) -> list[tuple[str, str]]:
    """Name and module of each thing in a description that `serialize` found to be the user's own."""
    if isinstance(description, list | tuple):
        return [found for part in description for found in foreign(part)]
    if not isinstance(description, Mapping):
        return []
    is_own = {"class_name", "foreign"} <= description.keys()
    own = [(description["class_name"], description["foreign"])] if is_own else []
    return own + foreign(list(description.values()))


def snake_case(name: str) -> str:
    """GlorotUniform -> glorot_uniform, F1Score -> f1_score, LSTM -> lstm, MaxPooling1D -> max_pooling1d."""
    return re.sub("(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][a-z])", "_", name).lower()


def by_both_names(*classes: type) -> dict[str, Any]:
    """Each class under its own name and, as Keras has it, in snake case."""
    return {name: cls for cls in classes for name in (cls.__name__, snake_case(cls.__name__))}
