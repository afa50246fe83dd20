"""Where a coordinate method ended: q, written down as far as it is asked for."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import OptionError
from jensen._conjugate.algebra import ConjugateModel, ConjugateTarget, Moments, Naturals
from jensen._conjugate.algebra.plates import PlateSplit, split
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._conjugate.coordinate.ascent import Ascent, State
from jensen._conjugate.coordinate.collapse import Weighable, chosen, collapses
from jensen._conjugate.coordinate.plated import PlatedAscent
from jensen._families.exponential import Product
from jensen._math.precision import Precision, working


class Solution(eqx.Module):
    """q(z) = Π_j q_j(z_j), the factors of a streamed plate left implicit.

    Those factors are functions of the others (each is optimal given them), and there may be millions.

    Attributes:
        naturals: natural parameters of the blocks that the ascent held.
        carried: moments of local blocks that were carried from sweep to sweep, where they are known.
        target: the model. parts: its streamed plate, if there is one.
    """

    naturals: Naturals
    carried: Moments
    target: ConjugateTarget = eqx.field(static=True)
    parts: PlateSplit | None = eqx.field(static=True, default=None)

    @property
    def precision(self) -> Precision:
        """Working precision."""
        return self.target.precision

    def __repr__(self) -> str:
        return f"Solution({', '.join(self.naturals)})"

    @property
    def infos(self) -> dict[str, SiteInfo]:
        """Every sample site."""
        return self.target.model.sites

    @property
    def streamed(self) -> tuple[str, ...]:
        """Sites whose factors are left implicit."""
        blocks = self.target.model.blocks
        return tuple(site for name in (self.parts.local if self.parts else ()) for site in blocks[name].sites)

    def weighables(self) -> list[Weighable]:
        """Ways to integrate out as much as possible."""
        model = self.target.model
        plans = collapses(model, self.parts)
        known = model.layout.programs if self.parts is None else {}  # a streamed plate holds its rows
        return [
            Weighable(chosen(self.held(), plan.kept), plan, model.energy.arrays, lambda arrays, _: arrays, known)
            for plan in plans
        ]

    def energies(self) -> dict[str, float]:
        """E_q of every site's log density and, under "", the entropy, in nats."""
        with working(self.precision):
            model = self.target.model
            found = model.program("energies", _by_site)(self.product(), model.energy.arrays)
            return {name: float(value) for name, value in found.items()}

    def held(self) -> Product:
        """The factors that the ascent held, as a product."""
        factors = {name: self.target.model.factor(name, natural) for name, natural in self.naturals.items()}
        blocks = self.target.model.blocks
        return Product(factors, tuple((name, blocks[name].sites) for name in factors))

    def product(self) -> Product:
        """The whole of q; for a streamed plate, memory for every row's factor."""
        with working(self.precision):
            if self.parts is None:
                return self.target.model.product(self.naturals)
            moments = {name: factor.mean_params() for name, factor in self.held().factors.items()}
            local = PlatedAscent(self.parts).local_naturals({**moments, **self.carried})
            return self.target.model.product({**self.naturals, **local})

    def arrays(self) -> dict[str, np.ndarray]:
        """The natural parameters as flat names: `block/statistic`."""
        return flat(self.naturals)


def solution(ascent: Ascent, state: State, target: ConjugateTarget) -> Solution:
    """The solution at a state of an ascent."""
    naturals = {name: state.naturals[name] for name in ascent.order}
    parts = _in_double(ascent) if isinstance(ascent, PlatedAscent) else None
    carried = {name: state.moments[name] for name in (parts.carried if parts else ()) if name in state.moments}
    return Solution(naturals, carried, target, parts)


def _in_double(ascent: PlatedAscent) -> PlateSplit | None:
    """The split that answers are computed from: in double precision."""
    single = ascent.model.layout.row_precision == "single"
    return split(ascent.model, ascent.parts.plate) if single else ascent.parts


def flat(naturals: Naturals) -> dict[str, np.ndarray]:
    """`block/statistic` -> array."""
    return {f"{n}/{key}": np.asarray(value) for n, natural in naturals.items() for key, value in natural.items()}


def nested(arrays: Mapping[str, np.ndarray]) -> Naturals:
    """The inverse of `flat`."""
    naturals: Naturals = {}
    for name, value in arrays.items():
        block, _, statistic = name.rpartition("/")
        naturals.setdefault(block, {})[statistic] = jnp.asarray(value)
    return naturals


def restored(target: ConjugateTarget, arrays: Mapping[str, np.ndarray]) -> Solution:
    """The solution with these saved natural parameters; the blocks of a plate that they lack were streamed."""
    with working(target.precision):
        naturals, model = nested(arrays), target.model
        plates = {p.name for site in model.sites.values() for p in site.plates}
        splits = (split(model, plate) for plate in sorted(plates) if set(naturals) != set(model.blocks))
        parts = next((s for s in splits if s is not None and set(s.shared) == set(naturals)), None)
    if parts is None and set(naturals) != set(model.blocks):
        raise OptionError(
            "This model does not match the saved fit: its blocks are others.",
            f"Saved blocks: {', '.join(naturals)}; the model's: {', '.join(model.blocks)}.",
            "Attach the model it was fitted with.",
        )
    return Solution(naturals, {}, target, parts)


def _by_site(model: ConjugateModel, q: Product, arrays: Any) -> dict[str, Any]:
    model = model.with_arrays(arrays)
    moments = {name: factor.mean_params() for name, factor in q.factors.items()}
    return {**site_energies(model.energy, model._lookup(moments)), "": q.entropy()}


def site_energies(energy: Any, lookup: Any) -> dict[str, Any]:
    """Site -> its terms at these moments."""
    sites = dict.fromkeys(entry.site for entry in energy.terms)
    return {site: energy(lookup, [t for t in energy.terms if t.site == site]) for site in sites}
