"""Methods by name: `jn.advi(family="full_rank")`, or the string "advi" for the defaults."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from jensen._base.errors import JensenError, OptionError, nearest
from jensen._core import AbstractAlgorithm
from jensen._core.options import fits, words
from jensen._gaussian.chosen_family import as_chosen
from jensen.algorithms import ADVI, BBVI, CAVI, HVM, SVI, AmortisedVI, Auto, Laplace, Naive, Nested, Pathfinder

METHODS: dict[str, type[AbstractAlgorithm]] = {
    cls.name: cls for cls in (Auto, ADVI, BBVI, HVM, CAVI, SVI, AmortisedVI, Naive, Nested, Laplace, Pathfinder)
}

Method = TypeVar("Method", bound=AbstractAlgorithm)


def _make(cls: type[Method], options: dict[str, Any]) -> Method:
    known = [field.name for field in dataclasses.fields(cast(Any, cls))]
    for name in options:
        if name not in known:
            raise OptionError(f"{cls.name} has no option '{name}'.", f"Option: {name}.", nearest(name, known))
    options = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    hints = typing.get_type_hints(cls)
    arrays = [name for name, value in options.items() if hasattr(value, "shape")]
    wrong = [name for name in arrays if hints[name] is not Any]
    if not wrong:
        try:
            return cast(Callable[..., Method], cls)(**options)
        except (TypeError, ValueError, AttributeError) as error:
            if isinstance(error, JensenError):
                raise
            wrong = [name for name, value in options.items() if not fits(value, hints[name])] or list(options)
    name = wrong[0]
    raise OptionError(
        f"{cls.name} option '{name}' takes {words(hints[name])}, not {options[name]!r}.",
        f"Option: {name} of {cls.name}.",
    )


def auto(**options: Any) -> Auto:
    """The default method; options as documented in `jensen.algorithms.Auto`."""
    return _make(Auto, options)


def advi(**options: Any) -> ADVI:
    """Gaussian ADVI without a learning rate; options as documented in `jensen.algorithms.ADVI`.

    Example:
        >>> advi(family="full_rank").family
        'full_rank'
    """
    if "family" in options:
        options["family"] = as_chosen(options["family"])
    return _make(ADVI, options)


def amortised(encoder: Any = None, **options: Any) -> AmortisedVI:
    """Row factors by an encoder network, and the model learned with it; see `jensen.algorithms.AmortisedVI`.

    Example:
        >>> amortised(hidden=(64,)).family
        'mean_field'
    """
    return _make(AmortisedVI, {"encoder": encoder, **options})


def bbvi(**options: Any) -> BBVI:
    """Black-box VI, discrete latents included; options as documented in `jensen.algorithms.BBVI`.

    Example:
        >>> bbvi(num_draws=16).num_draws
        16
    """
    return _make(BBVI, options)


def hvm(**options: Any) -> HVM:
    """Hierarchical variational models; options as documented in `jensen.algorithms.HVM`.

    Example:
        >>> hvm(prior="flow", importance=5).importance
        5
    """
    return _make(HVM, options)


def cavi(**options: Any) -> CAVI:
    """Coordinate ascent derived from the model; options as documented in `jensen.algorithms.CAVI`.

    Example:
        >>> cavi(blocks=[("mu", "tau")]).blocks
        (('mu', 'tau'),)
    """
    return _make(CAVI, options)


def svi(**options: Any) -> SVI:
    """Natural-gradient steps on minibatches; options as documented in `jensen.algorithms.SVI`."""
    return _make(SVI, options)


def naive(**options: Any) -> Naive:
    """Ascent of a bound in closed form; options as documented in `jensen.algorithms.Naive`."""
    return _make(Naive, options)


def nested(**options: Any) -> Nested:
    """Groups of latents, or a field, integrated out for every value of the rest; see `jensen.algorithms.Nested`.

    Example:
        >>> nested(nodes=25).nodes
        25
    """
    return _make(Nested, options)


def laplace(**options: Any) -> Laplace:
    """The Laplace approximation; options as documented in `jensen.algorithms.Laplace`."""
    return _make(Laplace, options)


def pathfinder(**options: Any) -> Pathfinder:
    """Multi-path Pathfinder; options as documented in `jensen.algorithms.Pathfinder`."""
    return _make(Pathfinder, options)


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
