"""The registry: distribution class -> the parameters it is read by and its log density in the algebra of values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from jensen._conjugate.algebra.value import Value

LogDensityRule: TypeAlias = Callable[..., Value]


@dataclass(frozen=True)
class Density:
    """`parameters(distribution)` gives the parameter arrays; `log_prob(x, **parameters)` the elementwise log density.

    The class must match exactly: a subclass may have changed the density.
    """

    parameters: Callable[[Any], dict[str, Any]]
    log_prob: LogDensityRule


DENSITIES: dict[type, Density] = {}


def density(
    cls: type, *names: str, parameters: Callable[[Any], dict[str, Any]] | None = None
) -> Callable[[LogDensityRule], LogDensityRule]:
    """Register the log density of a class, read by the named attributes or by `parameters`."""

    def register(fn: LogDensityRule) -> LogDensityRule:
        read = parameters or (lambda d: {name: getattr(d, name) for name in names})
        DENSITIES[cls] = Density(read, fn)
        return fn

    return register


def parameters_of(distribution: Any) -> dict[str, Any] | None:
    """The parameters of a registered distribution; `None` for another class."""
    entry = DENSITIES.get(type(distribution))
    return None if entry is None else entry.parameters(distribution)
