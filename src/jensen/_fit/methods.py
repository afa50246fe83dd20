"""Methods by name: `jn.advi(family="full_rank")`, or the string "advi" for the defaults."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from jensen._base.errors import JensenError, OptionError, nearest
from jensen._core import AbstractAlgorithm
from jensen._core.options import fits, words
from jensen.algorithms import ADVI, BBVI, CAVI, HVM, SVI, AmortisedVI, Auto, Laplace, Naive, Nested, Pathfinder

METHODS: dict[str, type[AbstractAlgorithm]] = {
    cls.name: cls for cls in (Auto, ADVI, BBVI, HVM, CAVI, SVI, AmortisedVI, Naive, Nested, Laplace, Pathfinder)
}

Method = TypeVar("Method", bound=AbstractAlgorithm)
Options = ParamSpec("Options")


def _make(cls: type[AbstractAlgorithm], options: dict[str, Any]) -> AbstractAlgorithm:
    known = {field.name: field for field in dataclasses.fields(cast(Any, cls))}
    for name in options:
        if name not in known:
            raise OptionError(f"{cls.name} has no option '{name}'.", f"Option: {name}.", nearest(name, known))
    options = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    hints = typing.get_type_hints(cls)
    arrays = [name for name, value in options.items() if hasattr(value, "shape")]
    wrong = [name for name in arrays if hints[name] is not Any]
    if not wrong:
        try:
            # Equinox looks into arguments before it converts them, and dies of mappings whose keys have no order.
            return cls(**{name: known[name].metadata.get("converter", _same)(one) for name, one in options.items()})
        except (TypeError, ValueError, AttributeError) as error:
            if isinstance(error, JensenError):
                raise
            wrong = [name for name, value in options.items() if not fits(value, hints[name])] or list(options)
    name = wrong[0]
    raise OptionError(
        f"{cls.name} option '{name}' takes {words(hints[name])}, not {options[name]!r}.",
        f"Option: {name} of {cls.name}.",
    )


def _same(value: Any) -> Any:
    return value


def _annotation(field: Any, hints: dict[str, Any]) -> Any:
    """The type that users write, which a converter may turn into another."""
    converter = field.metadata.get("converter")
    return hints[field.name] if converter is None else next(iter(typing.get_type_hints(converter).values()))


def _options_of(cls: Callable[Options, Method]) -> Callable[[Callable[[], None]], Callable[Options, Method]]:
    """Make a function one that makes the method, with the options of its class, and names what is wrong with one."""
    known: Any = cls
    hints = typing.get_type_hints(known)
    fields = [field for field in dataclasses.fields(known) if field.init]
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=field.default if field.default is not dataclasses.MISSING else {},
            annotation=_annotation(field, hints),
        )
        for field in fields
    ]

    def make(*args: Options.args, **options: Options.kwargs) -> Method:
        if len(args) > len(fields):
            raise OptionError(f"{known.name} has {len(fields)} options, got {len(args)}.", "Options by position.")
        given = {field.name: value for field, value in zip(fields, args, strict=False)}
        twice = given.keys() & options.keys()
        if twice:
            raise OptionError(f"The option '{min(twice)}' is given twice.", f"Option: {min(twice)} of {known.name}.")
        return cast(Method, _make(known, {**given, **options}))

    def decorate(fn: Callable[[], None]) -> Callable[Options, Method]:
        found: Any = functools.wraps(fn)(make)
        del found.__wrapped__  # whose signature is not that of the options
        found.__doc__ = f"{inspect.getdoc(fn)}\n\n{inspect.getdoc(known)}"
        found.__signature__ = inspect.Signature(parameters, return_annotation=known)
        return found

    return decorate


@_options_of(Auto)
def auto() -> None:
    """The default method; options as documented in `jensen.algorithms.Auto`."""


@_options_of(ADVI)
def advi() -> None:
    """Gaussian ADVI without a learning rate; options as documented in `jensen.algorithms.ADVI`.

    Example:
        >>> advi(family="full_rank").family
        'full_rank'
    """


@_options_of(AmortisedVI)
def amortised() -> None:
    """Row factors by an encoder network, and the model learned with it; see `jensen.algorithms.AmortisedVI`.

    Example:
        >>> amortised(hidden=(64,)).family
        'mean_field'
    """


@_options_of(BBVI)
def bbvi() -> None:
    """Black-box VI, discrete latents included; options as documented in `jensen.algorithms.BBVI`.

    Example:
        >>> bbvi(num_draws=16).num_draws
        16
    """


@_options_of(HVM)
def hvm() -> None:
    """Hierarchical variational models; options as documented in `jensen.algorithms.HVM`.

    Example:
        >>> hvm(prior="flow", importance=5).importance
        5
    """


@_options_of(CAVI)
def cavi() -> None:
    """Coordinate ascent derived from the model; options as documented in `jensen.algorithms.CAVI`.

    Example:
        >>> cavi(blocks=[("mu", "tau")]).blocks
        (('mu', 'tau'),)
    """


@_options_of(SVI)
def svi() -> None:
    """Natural-gradient steps on minibatches; options as documented in `jensen.algorithms.SVI`."""


@_options_of(Naive)
def naive() -> None:
    """Ascent of a bound in closed form; options as documented in `jensen.algorithms.Naive`."""


@_options_of(Nested)
def nested() -> None:
    """Groups of latents, or a field, integrated out for every value of the rest; see `jensen.algorithms.Nested`.

    Example:
        >>> nested(nodes=25).nodes
        25
    """


@_options_of(Laplace)
def laplace() -> None:
    """The Laplace approximation; options as documented in `jensen.algorithms.Laplace`."""


@_options_of(Pathfinder)
def pathfinder() -> None:
    """Multi-path Pathfinder; options as documented in `jensen.algorithms.Pathfinder`."""


def resolve(method: str | AbstractAlgorithm) -> AbstractAlgorithm:
    """The method object for an alias or an object."""
    if isinstance(method, AbstractAlgorithm):
        return method
    if isinstance(method, str):
        if method not in METHODS:
            raise OptionError(f"There is no method '{method}'.", "Argument: method.", nearest(method, METHODS))
        return _make(METHODS[method], {})
    raise OptionError(
        f"`method` must be a name or a method object, not {type(method).__name__}.",
        "Argument: method.",
        f"Known: {', '.join(sorted(METHODS))}.",
    )
