"""Where a hybrid ascent ended: conjugate factors and a Gaussian."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._conjugate.algebra.energy import Energy
from jensen._conjugate.algebra.partial import PartialModel
from jensen._conjugate.algebra.target import HybridTarget
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._conjugate.coordinate.collapse import Weighable, chosen, collapses
from jensen._conjugate.coordinate.solution import flat, nested, site_energies
from jensen._families.exponential import Product, UnconstrainedNormal
from jensen._math.noise import symmetric_draws
from jensen._math.precision import Precision, working
from jensen._math.programs import Program

DRAWS = 1024
"""Symmetric draws behind expectations over the Gaussian."""


class HybridSolution(eqx.Module):
    """q(z) as a product of conjugate factors and one Gaussian on the unconstrained space of the other latents.

    Attributes:
        q: the product. target: the model.
    """

    q: Product
    target: HybridTarget = eqx.field(static=True)

    @classmethod
    def of(cls, ascent: Any, point: Any, target: HybridTarget) -> "HybridSolution":
        """The solution at a point of an ascent."""
        return cls(ascent.product(point), target)

    def __repr__(self) -> str:
        return f"HybridSolution({', '.join(self.q.factors)})"

    @property
    def precision(self) -> Precision:
        """Working precision."""
        return self.target.precision

    @property
    def infos(self) -> dict[str, SiteInfo]:
        """Every sample site."""
        return self.target.model.sites

    @property
    def streamed(self) -> tuple[str, ...]:
        """No factor is left implicit."""
        return ()

    def held(self) -> Product:
        """The whole of q."""
        return self.q

    def product(self) -> Product:
        """The whole of q."""
        return self.q

    def weighables(self) -> list[Weighable]:
        """Ways to integrate out conjugate latents; the others keep their draws."""
        model = self.target.model
        (name,) = (n for n, sites in self.q.blocks if set(sites) == set(model.free))

        def at(arrays: Any, values: Mapping[str, Any]) -> Any:
            return tuple(model.prepare(arrays, {n: values[n] for n in model.free}))

        return [
            Weighable(chosen(self.q, (*plan.kept, name)), plan, model.arrays, at)
            for plan in collapses(model.conjugate, None)
        ]

    def energies(self) -> dict[str, float]:
        """E_q of every site's log density and, under "", the entropy, in nats."""
        model = self.target.model
        with working(self.precision):
            noise = symmetric_draws(max(DRAWS, 4 * model.dim), model.dim, 0)
            found = Program(partial(_by_site, model))(self.q, model.arrays, noise)
            return {name: float(value) for name, value in found.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """The natural parameters as flat names: `block/statistic`."""
        return flat({name: factor.natural for name, factor in self.q.factors.items()})


def restored_hybrid(target: HybridTarget, arrays: Mapping[str, np.ndarray]) -> HybridSolution:
    """The solution with these saved natural parameters."""
    model = target.model
    with working(target.precision):
        naturals = nested(arrays)
        conjugate = model.conjugate.product({n: v for n, v in naturals.items() if n in model.conjugate.blocks})
        name = "+".join(model.free)
        supports = tuple(model.sites[n].support for n in model.free)
        gaussian = UnconstrainedNormal(naturals[name], tuple(model.shapes[n] for n in model.free), supports)
        return HybridSolution(
            Product({**conjugate.factors, name: gaussian}, (*conjugate.blocks, (name, model.free))), target
        )


def _by_site(model: PartialModel, q: Product, arrays: Any, noise: Any) -> dict[str, Any]:
    gaussian = q.factor(model.free[0])
    moments = {name: factor.mean_params() for name, factor in q.factors.items() if name in model.conjugate.blocks}
    lookup = model.conjugate._lookup(moments)

    def at(unit: Any) -> dict[str, Any]:
        point = gaussian.loc + jnp.linalg.cholesky(gaussian.covariance) @ unit  # type: ignore[attr-defined]
        return site_energies(Energy(tuple(model.prepare(arrays, model.constrain(point)[0])), model.skeleton), lookup)

    parts = jax.tree.map(lambda values: jnp.mean(values), jax.lax.map(at, noise, batch_size=64))
    return {**parts, "": q.entropy()}
