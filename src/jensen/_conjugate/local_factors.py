"""Factors of the latents of rows, those of the fit or new ones, at their optimum given what rows share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jensen._base.arguments import count_of, seed_of
from jensen._base.errors import DataError, OptionError, UndefinedError, nearest
from jensen._conjugate.algebra import ConjugateModel, ConjugateTarget, conjugate_target
from jensen._conjugate.algebra.plates import PlateSplit
from jensen._conjugate.coordinate.plated_sweeps import sweeps_of
from jensen._conjugate.coordinate.shape import splits
from jensen._conjugate.coordinate.stream import StreamTarget
from jensen._families.exponential import Product, draw_many
from jensen._math.precision import Precision, working
from jensen._model.door import read
from jensen._program.indices import check_indices


@dataclass(frozen=True, eq=False)
class LocalFactors:
    """q(z_n | x_n) of some rows: the optimal factors given q of the globals, which stays as it was fitted.

    For a mixture these are the responsibilities. Exact given the globals where the latents of a row stand in one
    block; else the rows' coordinate ascent is run to convergence.

    Attributes:
        q: the factors. size: rows. plate: the plate of the rows.
    """

    q: Product = field(repr=False)
    size: int
    plate: str
    precision: Precision = field(repr=False)
    values: Mapping[str, np.ndarray] = field(repr=False)

    def mean(self) -> dict[str, np.ndarray]:
        """E[z] by site, on the supports (of a discrete latent: of its number)."""
        with working(self.precision):
            return {k: np.asarray(v, float) for k, v in jax.device_get(self.q.means()).items()}

    def sd(self) -> dict[str, np.ndarray]:
        """Standard deviations by site."""
        with working(self.precision):
            found = jax.device_get(self.q.variances())
        return {name: np.sqrt(np.asarray(value, float)) for name, value in found.items()}

    def probabilities(self) -> dict[str, np.ndarray]:
        """q of every value of the discrete latents: site -> (*site, values)."""
        found = {}
        with working(self.precision):
            for name, factor in self.q.factors.items():
                (site, *others) = self.q.sites[name]
                if site in self.values and not others:
                    found[site] = np.asarray(jax.device_get(factor.mean_params()["indicator"]), float)
        return found

    def sample(self, num_draws: int = 1000, *, seed: int = 0) -> dict[str, np.ndarray]:
        """Draws of the rows' latents, site -> (num_draws, ...)."""
        num_draws, seed = count_of(num_draws, "num_draws"), seed_of(seed)
        with working(self.precision):
            return draw_many(self.q, num_draws, seed)


def local_factors(
    held: Product,
    fitted: ConjugateTarget | StreamTarget,
    rows: Callable[[str, Any], bool],
    new_data: Mapping[str, Any] | None,
) -> LocalFactors:
    """The factors of these rows. `held` holds the globals of a fit; `rows` says which arguments hold rows."""
    known, precision = dict(fitted.program.kwargs), fitted.precision
    if new_data is not None:
        for name in new_data:
            if name not in known:
                raise OptionError(f"The model has no argument '{name}'.", "Argument: new_data.", nearest(name, known))
        missing = sorted(name for name, value in known.items() if name not in new_data and rows(name, value))
        if missing:
            raise DataError(
                f"new_data lacks {', '.join(map(repr, missing))}, of which the model needs a value for every row.",
                "Argument: new_data.",
                "Pass all arguments that hold rows.",
            )
    new = {} if new_data is None else dict(new_data)
    lengths = {len(v) for k, v in new.items() if np.ndim(v) and rows(k, known[k])}
    single = lengths == {1}
    if single:  # a plate of one row cannot be told from what all rows share: the row is taken twice
        new = {k: np.repeat(np.asarray(v), 2, 0) if np.ndim(v) and rows(k, known[k]) else v for k, v in new.items()}
    whole = read(fitted.program.fn, {**known, **new}, precision)
    check_indices(fitted.program.fn, whole, precision)
    with working(precision):
        blocks = tuple(block.sites for block in fitted.model.blocks.values() if len(block.sites) > 1)
        target = conjugate_target(fitted.program.fn, whole, blocks=blocks, precision=precision)
        return _optimal(held, target, single)


def row_plate(held: Product, model: ConjugateModel) -> PlateSplit | None:
    """The largest plate whose latents follow from these globals row by row."""
    return next((p for p in splits(model, None, False) if set(p.shared) <= set(held.factors)), None)


def _optimal(held: Product, target: ConjugateTarget, single: bool) -> LocalFactors:
    model = target.model
    parts = row_plate(held, model)
    if parts is None:
        raise UndefinedError(
            "No plate of this model holds latents row by row, so new rows have none of their own.",
            f"Blocks: {', '.join(model.blocks)}.",
            "fit.predict(new_data) predicts observations; latents that follow each other need a fit of their own.",
        )
    for name in parts.shared:
        ours = {k: np.shape(v) for k, v in held.factors[name].natural.items()}
        theirs = dict(model.blocks[name].shapes)
        if ours != {k: tuple(v) for k, v in theirs.items()}:
            raise DataError(
                f"The new rows change the shape of '{name}': {theirs} instead of {ours}.",
                "Argument: new_data.",
                "New rows may differ in their number only; pass sizes such as a number of components as in the fit.",
            )
    moments = {name: held.factors[name].mean_params() for name in parts.shared}
    sweeps = sweeps_of(parts, parts.shared)
    naturals = sweeps.local(moments, sweeps.cold(parts.size), parts.arrays)
    if single:
        naturals = jax.tree.map(lambda a: a[:1], naturals)
    names = [n for n in parts.local if not any(model.sites[s].auxiliary for s in model.blocks[n].sites)]
    factors = {name: model.factor(name, naturals[name]) for name in names}
    q = Product(factors, tuple((name, model.blocks[name].sites) for name in names))
    values = {n: s.values for n, s in model.sites.items() if s.values is not None}
    return LocalFactors(q, 1 if single else parts.size, parts.plate, target.precision, values)
