"""A NumPyro function as a program, and what a user passes as a model as one."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpyro import handlers
from numpyro.infer.util import compute_log_probs

from jensen._base.typing import Latent, PRNGKey, Terms
from jensen._data.data_check import argument_names, check_names
from jensen._program import analysis
from jensen._program.contract import AbstractProgram
from jensen._program.number_widths import seeded
from jensen._program.structure import Structure


@dataclass(frozen=True)
class NumPyroFunction(AbstractProgram):
    """An ordinary NumPyro model."""

    handled: ClassVar[bool] = True
    function: Callable[..., Any]

    @property
    def fn(self) -> Callable[..., Any]:
        """The function."""
        return self.function

    @property
    def name(self) -> str:
        """The function's."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def arguments(self) -> tuple[str, ...] | None:
        """The function's."""
        return argument_names(self.function)

    def check_names(self, data: Mapping[str, Any]) -> None:
        """Raise unless the function takes these arguments and no others are needed."""
        check_names(self.function, data)

    def analyse(self, arrays: dict[str, Any], fixed: dict[str, Any], *, discrete: bool = False) -> Structure:
        """One abstract run."""
        return analysis.analyse(self.function, arrays, fixed, discrete=discrete)

    def log_joint(self, latent: Mapping[str, Any], data: Mapping[str, Any]) -> Terms:
        """Of every sample and factor site, masks and scales applied."""
        return compute_log_probs(seeded(self.function), (), dict(data), dict(latent), sum_log_prob=False)[0]

    def computed(self, latent: Mapping[str, Any], data: Mapping[str, Any]) -> Latent:
        """All deterministic sites."""
        trace = handlers.trace(handlers.substitute(seeded(self.function), data=dict(latent))).get_trace(**data)
        return {name: site["value"] for name, site in trace.items() if site["type"] == "deterministic"}

    def observed(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Of sites with obs=."""
        trace = analysis.feasible_trace(self.function, dict(data)).items()
        return {name: site["value"] for name, site in trace if site["type"] == "sample" and site["is_observed"]}

    def forward(self, given: Mapping[str, Any], data: Mapping[str, Any], key: PRNGKey) -> dict[str, Any]:
        """The program run forward; where new data have new entries `jensen._fit.predict` does more."""
        program = handlers.substitute(handlers.seed(self.function, key), data=dict(given))
        trace = handlers.trace(program).get_trace(**data).items()
        return {name: site["value"] for name, site in trace if site["type"] == "sample"}

    def again(self) -> Callable[..., Any]:
        """A wrapped function."""
        fn = self.function
        return functools.wraps(fn)(lambda *args, **kwargs: fn(*args, **kwargs))


def as_program(model: Any) -> AbstractProgram:
    """What the user passed, as a program: a function is one of NumPyro's."""
    return model if isinstance(model, AbstractProgram) else NumPyroFunction(model)
