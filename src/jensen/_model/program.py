"""A program with its arguments: run forward at draws of its latents, whatever method made them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jensen._math.precision import Precision, float_type, working
from jensen._program.contract import AbstractProgram
from jensen._program.programs import as_program
from jensen._program.structure import Structure


@dataclass(frozen=True, eq=False)
class BoundProgram:
    """The user's model, its array arguments, and those it needs as concrete values."""

    fn: Any
    arrays: dict[str, Any]
    fixed: dict[str, Any]
    precision: Precision

    @property
    def program(self) -> AbstractProgram:
        """The model by itself."""
        return as_program(self.fn)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments the program is called with."""
        return {**self.arrays, **self.fixed}

    def observed(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The values observed at these sites."""

        def values(arrays: dict[str, Any]) -> dict[str, Any]:
            found = self.program.observed({**arrays, **self.fixed})
            return {name: found[name] for name in names}

        with working(self.precision):
            return jax.device_get(jax.jit(values)(self.arrays)) if names else {}

    def deterministic(self, draws: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Deterministic sites at draws of all latents, each (draws, ...)."""

        def at(arrays: dict[str, Any], latent: dict[str, Any]) -> dict[str, Any]:
            found = self.program.computed(latent, {**arrays, **self.fixed})
            return {name: found[name] for name in names}

        return self._map(at, draws) if names else {}

    def pointwise(self, draws: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Elementwise log densities of these sites at draws of all latents, (draws, ...), in nats."""

        def at(arrays: dict[str, Any], latent: dict[str, Any]) -> dict[str, Any]:
            terms = self.program.log_joint(latent, {**arrays, **self.fixed})
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


def program_of(model: Any, precision: Precision) -> BoundProgram | None:
    """The program behind an analysed density; `None` for a plain log density."""
    return None if model.source is None else BoundProgram(*model.source, precision=precision)
