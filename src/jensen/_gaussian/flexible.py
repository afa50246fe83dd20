"""Flows and mixtures on R^D: where a Gaussian leaves off."""

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._ascent import moves
from jensen._base.typing import leaf
from jensen._bounds import ELBO
from jensen._core import Progress, relayed
from jensen._estimators import StickingTheLanding, Stratified
from jensen._families import AbstractGaussian, FullRank, Mixture
from jensen._families.location_scale import reparameterised
from jensen._math.precision import float_type, working
from jensen._math.reckoning import MULTIPLIED
from jensen._model import Target
from jensen._model.views import Linear, Unconstrained

CHUNK = 300
"""Steps between two looks."""


class Free(moves.ByAdam):
    """Any density over R^D whose draws are reparameterised; whitened coordinates, so that one unit is one sd."""

    def apart(self, a: Any, b: Any) -> float:
        """Means in sds and log sds, from the same noise; both are smooth in the parameters."""
        first, second = (reparameterised(q, 2048, 0) for q in (a, b))
        sd = np.maximum(second.std(axis=0), 1e-12)
        means = np.abs(first.mean(axis=0) - second.mean(axis=0)) / sd
        scales = np.abs(np.log(np.maximum(first.std(axis=0), 1e-300) / sd))
        return float(max(means.max(), scales.max()))


@dataclass
class _View:
    """What the ascent asks of a target."""

    model: Any
    gradients: int = 0

    @property
    def step_model(self) -> Any:
        """The density itself."""
        return self.model

    def rows(self, key: Any, count: int) -> None:
        """Steps are on all rows."""

    def raise_failure(self) -> None:
        """Nothing runs outside JAX."""


def ascend(
    target: Target, start: Any, around: AbstractGaussian, seed: int, phase: str, max_chunks: int = 40
) -> Generator[Progress, None, moves.BlackBoxFit]:
    """Path derivatives on fresh draws, in coordinates whitened by `around`; a mixture draws from every component.

    Where coordinates depend on each other closely, a step that is small in each one's own sd is not small in all
    together, so the whitening is by the whole covariance wherever the family is closed under it.
    """
    dtype = float_type(target.precision)
    shift, factor = np.asarray(around.loc, float), around.factor()
    if start.scaled_only:
        factor = np.diag(around.scales())
    back = np.linalg.inv(factor)
    bijection = Linear(leaf(shift.astype(dtype)), leaf(factor.astype(dtype)))
    view = _View(Unconstrained(model=target.model, bijection=bijection))
    strata = start.num_strata
    estimator: Any = Stratified(StickingTheLanding(8)) if strata > 1 else StickingTheLanding(16)
    with working(target.precision):
        q = jax.tree.map(lambda x: jnp.asarray(x, dtype), start.linear(-back @ shift, np.tril(back)))
        # Steps are many operations on few numbers: from the first chunk on most of the time goes into running them.
        chunks = moves.Chunks(view, estimator, ELBO(), Free(), quick=0, heavy="middle")  # type: ignore[arg-type]
        run = moves.ascend(
            chunks,
            q,
            jr.key(seed),
            rate=start.first_step,
            chunk=CHUNK,
            max_chunks=max_chunks,
            tolerance=0.05,
            phase=phase,
            patience=2,
        )

        def unscaled(item: Any) -> Progress:  # written down only when asked for
            return dataclasses.replace(item, q=lambda q=item.q: q.linear(shift, factor))

        fit = yield from relayed(run, unscaled)
    target.gradients += view.gradients * strata
    return dataclasses.replace(fit, q=fit.q.linear(shift, factor))


def seconds(target: Target, components: int) -> float:
    """What `CHUNK` steps of a mixture take: its own densities, a component's draws at all others, and the target's."""
    draws = 8 * components * CHUNK
    return target.price.seconds(draws, CHUNK) + 3.0 * MULTIPLIED * draws * components * target.dim**2


def mixture_from(parts: list[FullRank], log_weights: np.ndarray, count: int, seed: int) -> Mixture:
    """A component at each of `parts`; further ones around them at random, until there are `count`."""
    rng = np.random.default_rng(seed)
    shares = np.exp(log_weights - np.logaddexp.reduce(log_weights))
    found, logs = list(parts), list(np.log(np.maximum(shares, 1e-6)))
    while len(found) < max(count, 2):
        which = int(rng.choice(len(parts), p=shares))
        factor = parts[which].factor()
        found.append(
            FullRank.from_factor(np.asarray(parts[which].loc) + factor @ rng.normal(size=parts[which].dim), factor)
        )
        logs.append(logs[which] - 1.0)
    return jax.tree.map(jnp.asarray, Mixture.of(found, np.array(logs)))
