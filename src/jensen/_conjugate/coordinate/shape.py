"""The model at the shape of some rows: its split along the plate and its compiled local step, which serve any data."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jensen._base.errors import DataError, JensenError, ModelError
from jensen._conjugate.algebra import ConjugateModel, Moments
from jensen._conjugate.algebra.additive import Additivity
from jensen._conjugate.algebra.analysed import Analysis
from jensen._conjugate.algebra.plates import PlateSplit, split
from jensen._conjugate.algebra.rows import Chunk
from jensen._conjugate.coordinate.local import LocalStep
from jensen._math.programs import Program

HEAVY = 100_000
"""Numbers in a pass over a batch beyond which its program is worth optimising."""


class Shape:
    """A model of some rows without its data; found again by every fit of the same program at the same shapes.

    Attributes:
        model: blocks and sites. parts: the split. rows: how many there are. fixed: names of the arguments that are
            needed concretely. additive: the check that rows add up. updates: programs of the global step.
    """

    model: ConjugateModel
    analysis: Analysis
    parts: PlateSplit
    rows: int
    fixed: tuple[str, ...]
    local: LocalStep
    begin: Program
    linear: Program
    naturals: Program

    def __init__(self, model: ConjugateModel, analysis: Analysis, parts: PlateSplit, iterations: int):
        self.model, self.analysis, self.parts, self.rows = model, analysis, parts, parts.size
        self.fixed = analysis.fixed
        self.local = LocalStep(parts, iterations)
        heavy = parts.size * self.local.rows.size > HEAVY
        self._fast, self._exact = (
            Program(partial(self._gather, False), heavy),
            Program(partial(self._gather, True), heavy),
        )
        self.begin = Program(self._begin)
        self.linear = Program(self._linear)
        self.naturals = Program(self._naturals)
        self._at = Program(partial(self._at_points, False), heavy), Program(partial(self._at_points, True), heavy)
        self.additive: Additivity | None = None
        self.updates: dict[Any, Program] = {}

    def gather(self, moments: Moments, arrays: Any, weights: Any, tolerance: Any) -> Any:
        """((statistics, share of the rows), the rows' bound); on logarithms throughout where products underflow."""
        *found, fine = self._fast(moments, arrays, weights, tolerance)
        if not fine:
            *found, _ = self._exact(moments, arrays, weights, tolerance)
        return found

    def at_points(self, points: Any, arrays: Any, weights: Any, tolerance: Any) -> Any:
        """The rows' share of log p(x, g), local latents integrated out, at each of several points g."""
        found, fine = self._at[0](points, arrays, weights, tolerance)
        return found if fine else self._at[1](points, arrays, weights, tolerance)[0]

    def _gather(self, exact: bool, moments: Moments, arrays: Any, weights: Any, tolerance: Any) -> Any:
        interface = self.parts.interface(moments, arrays)
        statistics, entropy, fine = self.local.statistics(interface, arrays, weights, tolerance, exact=exact)
        return (statistics, jnp.sum(weights) / self.rows), entropy + paired(statistics, interface), fine

    def _at_points(self, exact: bool, points: Any, arrays: Any, weights: Any, tolerance: Any) -> Any:
        def one(values: Any) -> Any:
            moments = at_values(self.model, values)
            (_, share), bound, fine = self._gather(exact, moments, arrays, weights, tolerance)
            return bound + share * self.parts.flat_energy(moments, arrays), fine

        found, fine = jax.lax.map(one, points)
        return found, jnp.all(fine)

    def _naturals(self, moments: Moments, arrays: Any, tolerance: Any) -> Any:
        """Natural parameters of every row's factors at the optimum of its own, rows first."""
        rows, chunk = self.local.rows, Chunk(arrays, 0, self.rows)
        parameters = rows.parameters(self.parts.interface(moments, arrays))
        low = jax.tree.map(lambda a: a.astype(rows.kind(arrays)), parameters)
        factors = self.local.factors(low, rows.all_features(chunk), chunk, tolerance)
        return rows.turned({name: factor.natural for name, factor in factors.items()}, rows_first=True)

    def _linear(self, statistics: Any, moments: Moments, arrays: Any) -> Any:
        """⟨S, G⟩, in nats."""
        return paired(statistics, self.parts.interface(moments, arrays))

    def _begin(self, start: Moments, arrays: Any, weights: Any) -> Any:
        """The statistics of given local moments."""
        interface = self.parts.interface({name: start[name] for name in self.parts.shared}, arrays)
        local = {name: start[name] for name in self.parts.local}
        statistics, _, _ = self.local.statistics(interface, arrays, weights, 0.0, local)
        return (statistics, jnp.sum(weights) / self.rows), jnp.zeros(())


def shape_of(model: ConjugateModel, analysis: Analysis, plate: str | None, iterations: int) -> Shape:
    """The shape of an analysed model, made once for each analysis."""
    known = model.layout.programs
    key = ("rows", plate, iterations)
    if key not in known:
        bare = model.with_arrays(())
        known[key] = Shape(bare, analysis, subsampled(bare, plate), iterations)
    return known[key]


def at_values(model: ConjugateModel, values: Mapping[str, Any]) -> Moments:
    """The moments of blocks that are concentrated at values of their sites."""
    kind = jnp.result_type(float)
    moments: Moments = {}
    for name, block in model.blocks.items():
        if block.sites[0] in values:
            found = model.factor(name, block.zeros()).statistics(*(values[site] for site in block.sites))
            moments[name] = jax.tree.map(lambda a: jnp.asarray(a, kind), found)
    return moments


def paired(left: Any, right: Any) -> Any:
    """⟨S, G⟩."""
    return sum((jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)), 0.0)


def subsampled(model: ConjugateModel, plate: str | None) -> PlateSplit:
    """The split along the named plate, or along the largest one that can be subsampled: one with latents, if any."""
    for bare in (False, True):
        parts = next(splits(model, plate, bare), None)
        if parts is not None:
            return parts
    raise not_by_rows(model, plate)


def splits(model: ConjugateModel, plate: str | None, bare: bool) -> Iterator[PlateSplit]:
    """Splits that leave global latents, along large plates first; `bare`: along plates without latents too."""
    plates: Mapping[str, int] = {p.name: p.size for site in model.sites.values() for p in site.plates}
    for name in sorted(plates, key=lambda name: -plates[name]):
        parts = split(model, name, bare=bare) if plate in (None, name) else None
        if parts is not None and parts.shared:
            yield parts


def not_by_rows(model: ConjugateModel, plate: str | None) -> JensenError:
    """What to say of a model of which no plate can be subsampled."""
    plates: Mapping[str, int] = {p.name: p.size for site in model.sites.values() for p in site.plates}
    if plate is not None and plates.get(plate) == 1:
        return DataError(
            "A batch holds a single row, which cannot be told apart from what all rows share.",
            f"Plate '{plate}'.",
            "Give every batch at least two rows.",
        )
    return ModelError(
        f"No plate of this model can be subsampled{f': plate {plate!r}' if plate else ''}.",
        f"Plates: {', '.join(f'{n!r} ({s})' for n, s in plates.items()) or 'none'}.",
        "One plate must hold the data row by row, and with them latents that depend on the global ones only, if any; "
        "use cavi otherwise.",
    )
