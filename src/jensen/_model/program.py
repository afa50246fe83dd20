"""A NumPyro program with its arguments: run forward at draws of its latents, whatever method made them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpyro import handlers
from numpyro.infer.util import compute_log_probs

from jensen._math.precision import Precision, float_type, working
from jensen._model.numpyro import NumPyroModel
from jensen._program.analysis import feasible_trace
from jensen._program.number_widths import seeded
from jensen._program.structure import Structure


@dataclass(frozen=True, eq=False)
class NumPyroProgram:
    """The user's function, its array arguments, and those it needs as concrete values."""

    fn: Callable[..., Any]
    arrays: dict[str, Any]
    fixed: dict[str, Any]
    precision: Precision

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments the program is called with."""
        return {**self.arrays, **self.fixed}

    def observed(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The values observed at these sites."""

        def values(arrays: dict[str, Any]) -> dict[str, Any]:
            trace = feasible_trace(self.fn, {**arrays, **self.fixed})
            return {name: trace[name]["value"] for name in names}

        with working(self.precision):
            return jax.device_get(jax.jit(values)(self.arrays)) if names else {}

    def deterministic(self, draws: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Deterministic sites at draws of all latents, each (draws, ...)."""

        def at(arrays: dict[str, Any], latent: dict[str, Any]) -> dict[str, Any]:
            program = handlers.substitute(seeded(self.fn), data=latent)
            trace = handlers.trace(program).get_trace(**arrays, **self.fixed)
            return {name: trace[name]["value"] for name in names}

        return self._map(at, draws) if names else {}

    def pointwise(self, draws: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Elementwise log densities of these sites at draws of all latents, (draws, ...), in nats."""

        def at(arrays: dict[str, Any], latent: dict[str, Any]) -> dict[str, Any]:
            terms, _ = compute_log_probs(seeded(self.fn), (), {**arrays, **self.fixed}, latent, sum_log_prob=False)
            return {name: terms[name] for name in names}

        return self._map(at, draws)

    def _map(self, at: Callable[..., Any], draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with working(self.precision):
            dtype = float_type(self.precision)
            latents = {k: np.asarray(v, dtype) if np.asarray(v).dtype.kind == "f" else v for k, v in draws.items()}
            run = jax.jit(lambda arrays, all_of: jax.lax.map(lambda one: at(arrays, one), all_of))
            return jax.device_get(run(self.arrays, latents))


def deterministic_names(structure: Structure) -> list[str]:
    """Names of the deterministic sites."""
    return [site.name for site in structure.deterministic]


def program_of(model: Any, precision: Precision) -> NumPyroProgram | None:
    """The NumPyro program behind an analysed density; `None` for a plain log density."""
    model = getattr(model, "base", model)
    if not isinstance(model, NumPyroModel):
        return None
    return NumPyroProgram(model.fn, model.data, model.fixed.value, precision)
