"""Contract 6, the algorithm: a host-side loop body that reports as it goes.

An algorithm is a generator: it yields a `Progress` after every piece of work and returns an `Outcome`. The one loop in
`jensen.fit` drives it, so that progress display, interruption and timing are the same for every method, and phases
compose by `yield from`.
"""

import abc
import dataclasses
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import equinox as eqx
import numpy as np

from jensen._errors import OptionError
from jensen.core.certificate import Certificate
from jensen.core.estimates import Estimates
from jensen.math.precision import Precision


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
        q: the approximation; its type decides how a `Fit` reads it (`jensen.answers`).
        converged: whether the stopping rule was met.
        status: a sentence saying why it stopped.
        certificate: optimiser diagnostics by name, in posterior-sd units or nats.
        linear_response: (D, D) covariance of the unconstrained coordinates by linear response, where defined.
        restarts: bound or log density reached by each start, highest first.
        stages: one row per family tried: name, bound, its standard error, whether kept.
        estimates: point estimates of the parameters that were learned, if any were.
        target: the model that q belongs to, where it is another than the one the algorithm was given.
    """

    q: Any
    converged: bool
    status: str
    certificate: Certificate = field(default_factory=Certificate)
    linear_response: np.ndarray | None = None
    restarts: tuple[float, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()
    estimates: Estimates | None = None
    target: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "certificate", Certificate.of(self.certificate))


Run: TypeAlias = Generator[Progress, None, Outcome]


class AbstractAlgorithm(eqx.Module):
    """A variational method with its options; a small frozen object."""

    name: eqx.AbstractClassVar[str]
    streams: ClassVar[bool] = False
    """Whether the data may be a source of batches."""

    def __check_init__(self) -> None:
        """Whole-number options are at least 1, limits at least 0; the rest is for each method to say."""
        for option in dataclasses.fields(self):
            optional = option.type == int | None
            value = getattr(self, option.name)
            if option.type is not int and not (optional and value is not None):
                continue
            least = 0 if option.name.endswith("_limit") else 1
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not whole or value < least:
                raise OptionError(
                    f"{option.name} must be a whole number of at least {least}, got {value!r}.",
                    f"Option: {option.name} of {self.name}.",
                    f"The default is {option.default}.",
                )

    @abc.abstractmethod
    def prepare(self, model: Any, data: Any, precision: Precision) -> Any:
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
