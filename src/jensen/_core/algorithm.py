"""Contract 6, the algorithm: a host-side loop body that reports as it goes.

An algorithm is a generator: it yields a `Progress` after every piece of work and returns an `Outcome`. The one loop in
`jn.fit` drives it, so that progress display, interruption and timing are the same for every method, and phases
compose by `yield from`.
"""

import abc
import dataclasses
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, ClassVar, TypeAlias, get_args, get_origin

import equinox as eqx
import numpy as np

from jensen._base.arguments import LARGEST_COUNT, number, whole_number
from jensen._base.errors import OptionError
from jensen._core.certificate import Certificate
from jensen._core.estimates import Estimates
from jensen._core.target import AbstractTarget
from jensen._math.precision import Precision

SEARCHING = ("climbing", "mode")
"""Phases whose number is a log joint density at a point, not yet a bound."""


@dataclass(frozen=True)
class Progress:
    """What a fit shows while it runs: the phase, its step, the bound (nats) and the best q so far.

    Where q is costly to write down, `q` is a function that does so when asked; where parameters are learned with it,
    the function returns an `Outcome`.
    """

    phase: str
    step: int
    bound: float
    q: Any | Callable[[], Any] | None = None
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What an algorithm leaves behind.

    Attributes:
        q: the approximation; its type decides how a `Fit` reads it (`jensen._fit.answers`).
        converged: whether the stopping rule was met.
        status: a sentence saying why it stopped.
        certificate: optimiser diagnostics by name, in posterior-sd units or nats.
        linear_response: (D, D) covariance of the unconstrained coordinates by linear response, where defined.
        restarts: bound or log density reached by each start, highest first.
        stages: one row per family tried: name, bound, its standard error, whether kept.
        estimates: point estimates of the parameters that were learned, if any were.
        target: the model that q belongs to, where it is another than the one the algorithm was given.
        elsewhere: other approximations of the same kind that hold evidence where q has none.
        further: what would be tried next, at a cost that only an untrusted verdict is worth: a function of the outcome
            that yields reports and returns an outcome.
    """

    q: Any
    converged: bool
    status: str
    certificate: Certificate = field(default_factory=Certificate)
    linear_response: np.ndarray | None = None
    restarts: tuple[float, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()
    estimates: Estimates | None = None
    target: AbstractTarget | None = None
    elsewhere: tuple[Any, ...] = ()
    further: Callable[["Outcome"], Generator[Progress, None, "Outcome"]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "certificate", Certificate.of(self.certificate))


Run: TypeAlias = Generator[Progress, None, Outcome]


def _is_kind(annotation: Any, kind: type) -> bool:
    """Whether an option is of this kind, or of it and None, and of nothing else."""
    parts = [part for part in (get_args(annotation) if isinstance(annotation, UnionType) else (annotation,))]
    kinds = [part for part in parts if part is not NoneType]
    return len(kinds) == 1 and (get_origin(kinds[0]) or kinds[0]) is kind


class AbstractAlgorithm(eqx.Module):
    """A variational method with its options; a small frozen object."""

    name: eqx.AbstractClassVar[str]
    streams: ClassVar[bool] = False
    """Whether the data may be a source of batches."""

    def __check_init__(self) -> None:
        """Whole-number options are at least 1, limits at least 0, others finite; the rest is for each method to say."""
        for option in dataclasses.fields(self):
            value, where = getattr(self, option.name), f"Option: {option.name} of {self.name}."
            plain = [kind for kind in (bool, str, Mapping) if _is_kind(option.type, kind)]
            if plain and value is not None and not isinstance(value, plain[0]):
                names = {bool: "True or False", str: "a name", Mapping: "a mapping"}
                raise OptionError(f"{option.name} must be {names[plain[0]]}, got {value!r}.", where)
            kinds = [kind for kind in (int, float) if _is_kind(option.type, kind)]
            if not kinds or (value is None and option.type is not kinds[0]):
                continue
            if kinds[0] is int:
                least = 0 if option.name.endswith("_limit") else 1
                most = LARGEST_COUNT if option.name.startswith("num_") else None
                whole_number(value, option.name, where, least, most, remedy=f"The default is {option.default}.")
            else:
                number(value, option.name, where)

    @abc.abstractmethod
    def prepare(self, model: Any, data: Any, precision: Precision) -> AbstractTarget:
        """Check the data and analyse the model: the target that `run` works on. Bad input is refused here.

        `data` map names to arrays, or are a source of batches for methods that take one (`streams`).
        """

    def prepare_learning(
        self, fn: Callable[..., Any], parameters: Any, data: Mapping[str, Any] | None, precision: Precision
    ) -> Any:
        """The target of a model whose parameters are learned by `run` itself; `None` for a method that does not."""
        del fn, parameters, data, precision
        return None

    @abc.abstractmethod
    def run(self, target: Any, seed: int) -> Run:
        """Fit `target`, yielding progress and returning the outcome."""
