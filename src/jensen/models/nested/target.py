"""The density of θ as the host sees it: every evaluation begins where the modes of z were at the best θ so far."""

import copy
import dataclasses
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen.math.precision import working
from jensen.math.programs import Graded
from jensen.models.nested.model import NestedModel
from jensen.models.nested.quadrature import nodes
from jensen.models.target import Target

STRETCH = 1.2
"""How far the nodes are drawn apart to see their error."""
WIDTH = 2e7
"""Data values that one call of the compiled density reads: its program is long, so there is one width of batch."""
TIMES = 5
"""Evaluations of the program for each node: values, gradients, and the search for modes."""
HEAVY, DEAR = 5e6, 3e4
"""Data values from which on few starts and draws have to do, and those from which on no mixture or flow is climbed."""


def value_grad_and_mode(model: Any, points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log densities and gradients at each point, and the modes of z at the highest."""
    (values, modes), slopes = jax.vmap(jax.value_and_grad(_at, argnums=1, has_aux=True), (None, 0))(model, points)
    return values, slopes, modes[jnp.argmax(jnp.nan_to_num(values, nan=-jnp.inf, posinf=-jnp.inf))]


def _at(model: Any, point: jax.Array) -> tuple[jax.Array, jax.Array]:
    return model.at(point)


def value_alone(model: Any, points: jax.Array) -> jax.Array:
    """Log densities at each point."""
    return jax.vmap(lambda point: model.at(point)[0])(points)


_value_grad_and_mode, _value_alone = Graded(value_grad_and_mode), Graded(value_alone)


class NestedTarget(Target):
    """A target whose groups' modes are followed from one θ to the next.

    Where the nodes of the quadrature are centred changes an integral by no more than its error, but a start near the
    mode saves nearly all Newton steps.
    """

    model: NestedModel
    best: float = -np.inf
    how: str = "group by group"

    def weigh(self, rows: int) -> "NestedTarget":
        """Say what an evaluation costs for a program of so many data values; one width of batch."""
        return self._weighed(rows, TIMES * len(self.model.points))

    def _weighed(self, rows: int, times: int) -> "NestedTarget":
        self.rows = rows
        self.costs(rows=rows, times=times)
        self.wide, self.widths = int(np.clip(2 ** int(np.log2(WIDTH / self.elements + 1)), 2, 64)), ()
        self.heavy, self.dear, self.second_order = self.elements >= HEAVY, self.elements >= DEAR, False
        return self

    @property
    def program_of_gradients(self) -> Any:
        """(model, points) -> values, gradients, and z at the highest."""
        return _value_grad_and_mode.at(self.dear)

    @property
    def program_of_values(self) -> Any:
        """(model, points) -> values."""
        return _value_alone.at(self.dear)

    @cached_property
    def reach(self) -> float:
        """That of the program: the loop in which modes are found has an end."""
        return Target(self.model.base, self.model.base.bijection.structure, self.precision).reach

    def value_and_grad(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities (rows,) in nats and gradients (rows, d), float64."""
        self.gradients += len(points)
        padded, width = self._pad(points)
        parts = []
        for i in range(0, len(padded), width):
            with working(self.precision):
                values, slopes, mode = jax.device_get(self.program_of_gradients(self.model, padded[i : i + width]))
            top = np.max(values, initial=-np.inf, where=np.isfinite(values))
            if top > self.best and np.isfinite(mode).all():
                self.best, self.model = float(top), dataclasses.replace(self.model, start=mode)
            parts.append((values, slopes))
        values, slopes = (np.concatenate(one)[: len(points)].astype(float) for one in zip(*parts, strict=True))
        return values, slopes

    def value(self, points: np.ndarray) -> np.ndarray:
        """Log densities (rows,) in nats; not a number counts as -inf."""
        self.values += len(points)
        if self.dear:
            padded, width = self._pad(points)
            with working(self.precision):
                chunks = (padded[i : i + width] for i in range(0, len(padded), width))
                parts = jax.device_get([self.program_of_values(self.model, chunk) for chunk in chunks])
            values = np.concatenate(parts)[: len(points)].astype(float)
        else:  # the gradient costs less than compiling a second program
            values, _ = self.value_and_grad(points)
            self.gradients -= len(points)
        return np.where(np.isnan(values), -np.inf, values)

    def finer(self) -> "NestedTarget":
        """The same density with about twice the nodes."""
        model = self.model
        per_axis = 2 * model.per_axis + 1
        points, log_weights = (x.astype(model.points.dtype) for x in nodes(per_axis, model.layout.size))
        return self._with(points=points, log_weights=log_weights, per_axis=per_axis).weigh(self.rows)

    def error(self, points: np.ndarray) -> float:
        """Standard deviation over these θ of what the log density owes to where the nodes are, in nats.

        The integrals do not depend on the nodes' distance from the modes, so what changes when the nodes are drawn
        apart by `STRETCH` is error. What is the same for every θ leaves the posterior as it is.
        """
        wider = np.asarray(STRETCH, self.model.points.dtype)
        return float(np.std(self.settled()._with(stretch=wider).value(points) - self.settled().value(points)))

    def doubts(self, points: np.ndarray) -> str:
        """What else speaks against the integrals at these θ, in a sentence."""
        del points
        return ""

    def settled(self, start: np.ndarray | None = None) -> Any:
        """The same target, with all searches from `start`, or from where they begin now: equal θ give equal bits."""
        found = self if start is None else self._with(start=start)
        found = copy.copy(found)
        found.best = np.inf
        return found

    def chart(self) -> dict[str, np.ndarray]:
        """What a file keeps to find the same density again from the program."""
        return {"nodes": np.asarray(self.model.per_axis), "start": np.asarray(self.model.start)}

    def _with(self, **leaves: Any) -> Any:
        found = copy.copy(self)
        found.model = dataclasses.replace(self.model, **leaves)
        return found
