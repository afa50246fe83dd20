"""A program as equations, traced on its data as often as asked; nothing is compiled."""

import warnings
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from jensen._base.errors import ModelError
from jensen._data.data_check import as_mapping, convert, fixings
from jensen._data.sources import AbstractSource
from jensen._math.precision import Precision, float_type, working
from jensen._math.programs import needed_equations
from jensen._program.analysis import CONCRETE_NEEDED
from jensen._program.imputation import imputing
from jensen._program.moving_supports import on_the_line
from jensen._program.programs import as_program
from jensen._program.same_program import difference, user_line
from jensen._program.site_watch import Watched, moved
from jensen._program.static_arguments import Frozen, signature
from jensen._program.user_code import user_frame

REMEDY = (
    "Draw random numbers, read clocks and keep counts outside, and pass what they give as data. What is unknown is a "
    "latent (numpyro.sample); one fixed draw is jax.random.normal(jax.random.key(0), shape)."
)


@dataclass(frozen=True, eq=False)
class Traced:
    """The site behind every output, and the equations: log densities and deterministic values."""

    sites: tuple[str, ...]
    closed: ClosedJaxpr


class Tracer:
    """Traces a model on its data; what it learns about them at the first call serves the next ones.

    The traced function takes the key that `numpyro.prng_key` draws from, a number that moves the latents away from the
    origin, and the arrays of the data.
    """

    def __init__(self, model: Any, data: Any, precision: Precision):
        self.model, self.data = model, data
        self.precision: Precision = precision
        self.arguments: dict[str, Any] = {}
        self.fixed: set[str] | None = None
        self.parameters: dict[str, Any] = {}
        self.sizes: dict[str, list[int]] = {}
        self.partly: set[str] = set()
        self.in_loop: set[str] = set()
        self.bounded: set[str] = set()

    @property
    def key(self) -> Any:
        """What one trace is good for: shapes, and the content of what is fixed."""
        content = Frozen({k: v for k, v in self.arguments.items() if k in (self.fixed or ())})
        return signature(self.arguments), content, self.precision

    @property
    def name(self) -> str:
        """Of the function."""
        return as_program(self.model).name

    def __call__(self) -> Traced:
        """One more trace."""
        with working(self.precision), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.fixed is not None:
                return self._trace(self.fixed)
            self.arguments = arguments_of(self.data, self.precision)
            error: Exception | None = None
            for fixed in fixings(self.arguments):
                try:
                    found = self._trace(fixed)
                except CONCRETE_NEEDED as needed:
                    error = needed
                    continue
                self.fixed = fixed
                return found
            assert error is not None  # or there was a trace
            raise error

    def _inputs(self, fixed: set[str]) -> tuple[Any, ...]:
        arrays = {k: v for k, v in self.arguments.items() if k not in fixed}
        key = jax.eval_shape(jax.random.key, 0)  # its type will do: nothing is compiled
        return key, np.asarray(0.7, float_type(self.precision)), arrays

    def _trace(self, fixed: set[str]) -> Traced:
        known = self.parameters
        found = self._once(fixed)
        # Parameters are learned: the program is that at given values of them, not at those it starts from.
        return found if self.parameters == known else self._once(fixed)

    def _once(self, fixed: set[str]) -> Traced:
        concrete, program = {k: v for k, v in self.arguments.items() if k in fixed}, as_program(self.model)

        def run(key: Any, spread: Any, arrays: dict[str, Any]) -> Any:  # a new function, or JAX remembers the old trace
            if not program.handled:
                values = {**arrays, **concrete}
                latent = {s.name: moved(s.support, s.shape, spread) for s in program.latents(values)}
                return program.log_joint(latent, values)
            watched = Watched(self.model, key, spread, self.parameters)
            out = watched.run({**arrays, **concrete})
            self.sizes, self.parameters = watched.sizes, watched.found
            self.partly, self.in_loop, self.bounded = watched.partly, watched.in_loop, watched.bounded
            return out

        closed, out = jax.make_jaxpr(run, return_shape=True)(*self._inputs(fixed))
        paths, _ = jax.tree_util.tree_flatten_with_path(out)
        return Traced(tuple(path[0].key for path, _ in paths), closed)

    def compare(self, first: Traced) -> None:
        """Raise unless the program is the one that it was."""
        try:
            second = self()
        except Exception as error:
            message = (str(error).strip().splitlines() or ["no message"])[0].rstrip(".")
            raise self._impure(
                f"it ran, and later it raised {type(error).__name__}: {message}", user_frame(error)
            ) from (error)
        if first.sites != second.sites:
            names = sorted(set(first.sites) ^ set(second.sites)) or list(second.sites)
            raise self._impure(f"site '{names[0]}' is not there, or not in the same place, at every run", "")
        found = difference(first.closed, second.closed)
        if found:
            raise self._impure(f"run again on the same data it computes with {found[0]}", found[1])

    def _impure(self, how: str, line: str) -> ModelError:
        return ModelError(
            f"The model is not the same at every run: {how}.", f"At {line}." if line else f"In {self.name}.", REMEDY
        )

    def check_plates(self) -> None:
        """Raise where two plates of different sizes have one name."""
        for name, sizes in self.sizes.items():
            if len(sizes) > 1:
                raise ModelError(
                    f"Two plates have the name '{name}' and different sizes: {' and '.join(map(str, sizes))}.",
                    f"Plate '{name}' in {self.name}.",
                    "Give each its own name: a plate's name is the axis of its rows wherever a fit is shown or saved.",
                )

    def rewritten(self, model: Any) -> Any:
        """The model, with latents on fixed supports and what `obs_mask` leaves unobserved in its place."""
        with working(self.precision):
            if self.bounded:
                model = on_the_line(model, self.bounded, self.arguments)
            if not self.partly:
                return model
            if self.partly & self.in_loop:
                name = min(self.partly & self.in_loop)
                raise ModelError(
                    f"The site '{name}' has an obs_mask inside a scan, where what is unseen cannot be told apart.",
                    f"Site '{name}'.",
                    "Leave obs_mask out and mask what is not observed: with numpyro.handlers.mask(mask=seen): "
                    f"numpyro.sample('{name}', ..., obs=y).",
                )
            return imputing(model, self.partly, self.arguments)

    def check_key(self, first: Traced) -> None:
        """Raise where the program depends on a key of `numpyro.prng_key`: its draw would be the only one ever made."""
        jaxpr = first.closed.jaxpr
        _, used = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
        if not used[0]:
            return
        with working(self.precision):
            _, *rest = self._inputs(self.fixed or set())
            run = jax.jit(jaxpr_as_fun(first.closed))
            leaves = jax.tree.leaves(rest)
            one, other = (jax.device_get(run(k, *leaves)) for k in map(jax.random.key, (0, 1)))
        apart = [n for n, a, b in zip(first.sites, one, other, strict=True) if not np.array_equal(a, b, equal_nan=True)]
        if not apart:
            return
        users = [eqn for eqn in needed_equations(jaxpr, jaxpr.outvars) if jaxpr.invars[0] in eqn.invars]
        line = next(filter(None, map(user_line, reversed(users))), "")
        raise ModelError(
            f"'{apart[0]}' depends on a random number drawn inside the model (numpyro.prng_key), which would be drawn "
            "once and kept.",
            f"At {line}." if line else f"Site '{apart[0]}' in {self.name}.",
            REMEDY,
        )


def arguments_of(data: Any, precision: Precision) -> dict[str, Any]:
    """The data as the model will see them, or an example of them where they come in batches; views, not copies."""
    seen = data.example().arguments if isinstance(data, AbstractSource) else as_mapping(data)
    return convert(seen, precision, copy=False)
