"""Turns "adam", Adam, Adam(0.01) or a saved description into an optimizer, and likewise for other kinds; and back."""

import inspect
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

from scratchlstm._support.checks import came

T = TypeVar("T")


def resolve(kind: str, identifier: Any, known: Mapping[str, Any], base: type[T], argument: str = "") -> T:
    """The object that `identifier` stands for.

    Args:
        kind: the kind of object, for error messages ("optimizer").
        identifier: a name in `known`, an object of class `base`, such a class itself, or a saved
            description `{"class_name": ..., "config": {...}}`, perhaps `with_own` classes.
        known: names and what they stand for: classes (called without arguments) or ready objects.
        base: the class of the result.
        argument: the caller's name for it, if not `kind`.

    Raises:
        ValueError: unknown name (the message lists the known ones).
        TypeError: anything else.
    """
    config = {}
    if isinstance(identifier, Mapping) and set(identifier) == {"class_name", "config"}:
        identifier, config = identifier["class_name"], identifier["config"]
    if isinstance(identifier, base):
        return identifier
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
    """An object described by its constructor's signature: each argument is an attribute of the same name."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments that make an equal object.

        For a user's subclass they are those of our class; anything it adds is up to its own `get_config`.
        """
        return {name: serialize(self.argument(name)) for name in arguments(self)}

    def argument(self, name: str) -> Any:
        """The current value of the constructor's argument of that name."""
        return getattr(self, name)

    def description(self) -> Any:
        """See `serialize`."""
        cls = type(self)
        description = {"class_name": cls.__name__, "config": self.get_config()}
        return description if is_ours(cls) else OwnPart(description | {"foreign": cls.__module__}, cls)


class OwnPart(dict[str, Any]):
    """The description of a user's own object, and what `custom_objects` needs to recreate it: the class."""

    def __init__(self, description: Mapping[str, Any], maker: Any) -> None:
        super().__init__(description)
        self.maker = maker


def serialize(thing: Any) -> Any:
    """The description that `resolve` turns back into an equal object; anything not `Configured` is left unchanged.

    That of a user's own class, which may share its name with one of ours, records its module and is rejected by
    `resolve` until `with_own` inserts the class.
    """
    return thing.description() if isinstance(thing, Configured) else thing


def arguments(thing: Any) -> list[str]:
    """Names of the constructor's arguments, those of the base class first."""
    classes = [cls for cls in type(thing).__mro__ if is_ours(cls) and cls not in (Configured, object)]
    ours = [defaults(cls) for cls in classes]
    known = dict.fromkeys(name for names in reversed(ours) for name in names)
    return [name for name in known if name in ours[0]]


def defaults(cls: type) -> dict[str, Any]:
    """A class's arguments and their defaults, `inspect.Parameter.empty` for required ones.

    **options described by a TypedDict are its keys: flags default to False, rates to 0, all others to None, unless
    `Annotated` gives the default. Other **options are the arguments of the base class.
    """
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            described = get_args(parameter.annotation)
            options = described[0].__annotations__ if described else {}
            found |= {key: _left_out(of) for key, of in options.items()} or defaults(_next_made(cls)) | found
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            found[name] = parameter.default
    return found


def _next_made(cls: type) -> type:
    """The class whose constructor a class's own constructor calls: the next one that has one."""
    first = next(each for each in cls.__mro__ if "__init__" in vars(each))
    after = cls.__mro__[cls.__mro__.index(first) + 1 :]
    return next(each for each in after if "__init__" in vars(each))


def _left_out(of: Any) -> Any:
    """See `defaults`."""
    return of.__metadata__[0] if get_origin(of) is Annotated else {bool: False, float: 0.0}.get(of)


def is_ours(cls: type) -> bool:
    """Whether it is a class of this package: a user's class has equations that we do not know."""
    return cls.__module__.split(".")[0] == __name__.split(".")[0]


def stranger(thing: Any, known: Mapping[str, Any]) -> str:
    """What was given instead of one of ours, for an error; if another package has the same name, where to find ours."""
    cls = type(thing)
    if is_ours(cls) or cls.__name__ not in known:
        return came(thing)
    return f"{cls.__name__} of {cls.__module__.split('.')[0]}: import it from scratchlstm.layers"


def foreign(description: Any) -> list[tuple[str, str]]:
    """Name and module of each object that `serialize` marked as the user's own in a description."""
    return [(own["class_name"], own["foreign"]) for own in own_parts(description)]


def own_parts(description: Any) -> list[Mapping[str, Any]]:
    """The descriptions of the user's own objects within a description, outer ones first."""
    if isinstance(description, list | tuple):
        return [found for part in description for found in own_parts(part)]
    if not isinstance(description, Mapping):
        return []
    return [description] * _is_own(description) + own_parts(list(description.values()))


def with_own(description: Any, own: Mapping[str, Any]) -> Any:
    """A description from a file, ready for `resolve`, with the user's own classes in place of their names.

    Args:
        own: name -> class, or an object such as an `Activation`. Whatever the file marks as ours stays ours.

    Raises:
        ValueError: classes are missing.
    """
    if missing := {name: module for name, module in foreign(description) if name not in own}:
        what = " and ".join(f"{name} of {module}" for name, module in missing.items())
        todo = f"pass custom_objects={{{', '.join(f'{name!r}: {name}' for name in missing)}}}"
        raise ValueError(f"it needs {what}, but contains no code: {todo}")

    def placed(part: Any) -> Any:
        if isinstance(part, list):
            return [placed(each) for each in part]
        if not isinstance(part, Mapping):
            return part
        if _is_own(part):
            return {"class_name": own[part["class_name"]], "config": placed(part["config"])}
        return {key: placed(each) for key, each in part.items()}

    return placed(description)


def require_loadable(description: Any) -> None:
    """Raise an error if the user's own objects could not be recreated from this description.

    Raises:
        ValueError: naming the first such object, and why.
    """
    seen: dict[str, OwnPart] = {}
    for part in own_parts(description):
        if not isinstance(part, OwnPart):
            continue  # a user's get_config put something else there
        name, module = part["class_name"], part["foreign"]
        if problem := _problem(part):
            raise ValueError(f"{name} is not part of scratchlstm (but of {module}), and {problem}")
        if (other := seen.setdefault(name, part)).maker != part.maker:
            both = f"{name} of {other['foreign']} and another {name} of {module}"
            raise ValueError(f"a file knows your classes only by name, but there is {both}: rename one of them")


def _is_own(description: Mapping[str, Any]) -> bool:
    return {"class_name", "foreign"} <= description.keys()


def _problem(part: OwnPart) -> str:
    """Why a user's class, called with its config, would not give an equal object; "" if nothing says so."""
    cls: Any = part.maker
    config = part["config"]
    try:
        json.dumps(config)
    except (TypeError, ValueError) as error:
        return f"its get_config returns what JSON cannot hold ({error}): numbers, strings, lists and dicts are fine"
    if isinstance(cls, Configured) or hasattr(cls, "from_config"):
        return ""
    parameters = inspect.signature(cls).parameters.values()
    fixed = {each.name: each.default for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    # our get_config omits only what ours may omit; a user's may omit anything with a default
    optional = defaults(next(filter(is_ours, cls.__mro__))) if is_ours(cls.get_config) else fixed
    required = inspect.Parameter.empty
    if lacks := [n for n in fixed if n not in config and (n not in optional or fixed[n] is required)]:
        todo = f"make get_config return it, too (in a cell it is enough to store it as self.{lacks[0]})"
        return f"its constructor takes {', '.join(lacks)}, which its get_config omits: {todo}"
    takes_more = any(each.kind is each.VAR_KEYWORD for each in parameters)
    if not takes_more and (surplus := [name for name in config if name not in fixed]):
        todo = "take **options and pass them to super().__init__, or define get_config"
        return f"its get_config returns {', '.join(surplus)}, which its constructor does not take: {todo}"
    return ""


def snake_case(name: str) -> str:
    """GlorotUniform -> glorot_uniform, F1Score -> f1_score, GRUCell -> gru_cell, MaxPooling1D -> max_pooling1d."""
    # three capitals are an abbreviation, two are not: RMSprop is rmsprop
    return re.sub("(?<=[a-z])(?=[A-Z])|((?<=[0-9])|(?<=[A-Z]{3}))(?=[A-Z][a-z])", "_", name).lower()


def by_both_names(*classes: type) -> dict[str, Any]:
    """Each class under its own name and, as in Keras, in snake case."""
    return {name: cls for cls in classes for name in (cls.__name__, snake_case(cls.__name__))}
