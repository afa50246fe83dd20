"""The density of θ as the host sees it: every evaluation begins where the groups' modes were at the best θ so far."""

import copy
import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from jensen.math.precision import working
from jensen.math.programs import Graded
from jensen.models.nested.model import NestedModel
from jensen.models.target import Target

STRETCH = 1.2
"""How far the nodes are drawn apart to see their error."""


@Graded
def _value_grad_and_mode(model: NestedModel, points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log densities and gradients at each point, and the groups' modes at the highest."""
    (values, modes), slopes = jax.vmap(jax.value_and_grad(_at, argnums=1, has_aux=True), (None, 0))(model, points)
    return values, slopes, modes[jnp.argmax(jnp.nan_to_num(values, nan=-jnp.inf, posinf=-jnp.inf))]


def _at(model: NestedModel, point: jax.Array) -> tuple[jax.Array, jax.Array]:
    latent, log_det = model.bijection.forward(point)
    centre = model.centre(latent)
    return model.given_centre(latent, centre) + log_det, centre.mode


@Graded
def _value(model: NestedModel, points: jax.Array) -> jax.Array:
    return jax.vmap(lambda point: _at(model, point)[0])(points)


class NestedTarget(Target):
    """A target whose groups' modes are followed from one θ to the next.

    Where the nodes of the quadrature are centred changes an integral by no more than its error, but a start near the
    mode saves nearly all Newton steps.
    """

    model: NestedModel
    best: float = -np.inf

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
                values, slopes, mode = jax.device_get(
                    _value_grad_and_mode.at(self.dear)(self.model, padded[i : i + width])
                )
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
            values = np.asarray(self._map(_value, points), float)
        else:  # the gradient costs less than compiling a second program
            values, _ = self.value_and_grad(points)
            self.gradients -= len(points)
        return np.where(np.isnan(values), -np.inf, values)

    def quadrature_error(self, points: np.ndarray) -> float:
        """Standard deviation over these θ of what the log density owes to where the nodes are, in nats.

        The integrals do not depend on the nodes' distance from the modes, so what changes when the nodes are drawn
        apart by `STRETCH` is error. What is the same for every θ leaves the posterior as it is.
        """
        wider = np.asarray(STRETCH, self.model.points.dtype)
        other = self.settled()._with(stretch=wider)
        return float(np.std(other.value(points) - self.settled().value(points)))

    def settled(self, start: np.ndarray | None = None) -> "NestedTarget":
        """The same target, with all searches from `start`, or from where they begin now: equal θ give equal bits."""
        found = self if start is None else self._with(start=start)
        found = copy.copy(found)
        found.best = np.inf
        return found

    def chart(self) -> dict[str, np.ndarray]:
        """What a file keeps to find the same density again from the program."""
        return {"nodes": np.asarray(self.model.per_axis), "start": np.asarray(self.model.start)}

    def _with(self, **leaves: np.ndarray) -> "NestedTarget":
        found = copy.copy(self)
        found.model = dataclasses.replace(self.model, **leaves)
        return found
