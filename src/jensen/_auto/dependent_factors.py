"""Beyond a product of factors where latents are discrete: hierarchical models, tried where weights show a gap."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._core import Outcome, Progress
from jensen._families.native import Product
from jensen._gaussian.family_comparison import BLOCKS, Measured
from jensen._hierarchical.family.features import drawn_leaf
from jensen._hierarchical.fitting.rows import rows_of_terms
from jensen._hierarchical.fitting.weights import LAMBDAS, weighed_draws
from jensen._hierarchical.hvm import HVM
from jensen._math.keys import purpose_key, split
from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._model.native import NativeTarget
from jensen._program.structure import plate_axis

GAP = 0.2
"""Nats between the bound of a product and the evidence from which on more is tried."""
WIDE, ALL = 64, 5000
"""Parameters that have one prior at most, of one row or of all latents; and those of all rows together."""
DRAWS, FEW, EFFORT = 2048, 256, 2e8
"""Draws by which the two are compared, and at least; data values read for them where that is less."""


def escalate(target: NativeTarget, first: Outcome, seed: int, eager: bool) -> Generator[Progress, None, Outcome]:
    """The product `first`, or a hierarchical model, with what was tried among the stages.

    Where importance weights put the evidence more than `GAP` above the bound of a model with discrete latents, these
    depend on each other in a way that no product says (continuous ones alone are for Gaussians and what follows them).
    Rows of a plate that share no term of the log joint get a prior each, else all latents one together, up to `WIDE`
    parameters (any number, if `eager`). It is kept only where its bound on fresh draws is higher by more than twice the
    error of the difference.
    """
    product = first.q
    if not any(factor.discrete for factor in product.factors.values()) or _scalars(product) < 2:
        return first
    found = measured(target, product, "product of factors", seed, first.converged)
    if not found.gap > GAP:
        return first
    method = suited(target, product, eager)
    if method is None:
        return replace(
            first,
            status=f"{first.status} Importance weights show {found.gap:.2g} nats between this bound and the evidence; "
            "jn.hvm() lets latents depend on each other, which takes long for so many.",
        )
    other = yield from method.run(target, seed)
    how = f"a prior for each row of '{method.plate}'" if method.plate else f"{type(other.q.prior).__name__} prior"
    tried = measured(target, other.q, f"hierarchical, {how}", seed, other.converged)
    better = tried.beats(found)
    stages = (*first.stages, found.row(not better), tried.row(better))
    if not better:
        return replace(first, status=f"{first.status} Tried without gain: {tried.name}.", stages=stages)
    gain = f"{tried.bound - found.bound:.2g} nats above that of a product of factors"
    return replace(other, status=f"Kept: {tried.name}, whose bound is {gain}. {other.status}", stages=stages)


def suited(target: NativeTarget, product: Product, eager: bool) -> HVM | None:
    """The hierarchical model for these latents; `None` where it would be too large."""
    sizes = {name: int(np.size(drawn_leaf(factor))) for name, factor in product.factors.items()}
    plates = [p.name for p in target.structure.latents[0].plates if p.size > 1]
    for plate in plates:
        axes = {site.name: plate_axis(site, plate) for site in target.structure.latents}
        if None in axes.values():
            continue
        rows = target.structure.plates[plate].size
        small = sum(sizes.values()) // rows <= WIDE and sum(sizes.values()) <= ALL
        known = {name: axis for name, axis in axes.items() if axis is not None}
        if small and _scalars(product) > rows and rows_of_terms(target, product, known) is not None:
            return HVM(plate=plate)
    return HVM() if eager or sum(sizes.values()) <= WIDE else None


def measured(target: NativeTarget, q: Any, name: str, seed: int, converged: bool) -> Measured:
    """The bound on fresh draws with its error, and the gap to the evidence, the median over blocks of draws.

    That of a product is measured on as many draws of its factors at a lower power besides, weighted by p / (½ q + ½ w):
    draws of q alone seldom see what q leaves out.
    """
    count = int(np.clip(EFFORT / target.elements, FEW, DRAWS)) // BLOCKS * BLOCKS
    with working(target.precision):
        key = purpose_key(seed, "dependent latents")
        if isinstance(q, Product):
            power = max(0.5, 1.0 - 1.5 / np.sqrt(_scalars(q)))
            wide = Product({name: factor.tempered(power) for name, factor in q.factors.items()})
            draws, log_q, log_both = jax.device_get(Program(_drawn)(q, wide, split(key, 2 * count)))
            draws = {site: np.asarray(value) for site, value in draws.items()}
        else:
            draws, log_q = weighed_draws(q, key, count, max(q.importance, LAMBDAS))
            log_both = log_q
    log_p = target.log_joint(draws)
    own, weights = (log_p - np.asarray(log_q, float))[:count], log_p - np.asarray(log_both, float)
    if not np.isfinite(own).all():
        return Measured(name, q, -np.inf, np.inf, np.inf, converged)
    parts = np.nan_to_num(weights, nan=-np.inf).reshape(-1, BLOCKS)
    bound = float(own.mean())
    gap = float(np.median(np.logaddexp.reduce(parts, axis=0) - np.log(len(parts)))) - bound
    return Measured(name, q, bound, float(own.std() / np.sqrt(count)), gap, converged)


def _drawn(q: Product, wide: Product, keys: Any) -> Any:
    """Draws of q, then as many of `wide`, with log q and that of the two in equal parts."""

    def one(item: Any) -> Any:
        key, first = item
        both = jax.tree.map(lambda a, b: jnp.where(first, a, b), q, wide)
        value = both.values(key, pathwise=False)
        log_q = q.log_prob(value)
        return value, log_q, jnp.logaddexp(log_q, wide.log_prob(value)) - jnp.log(2.0)

    own = jnp.arange(keys.shape[0]) < keys.shape[0] // 2
    return jax.lax.map(one, (keys, own), batch_size=64)


def _scalars(product: Product) -> int:
    return sum(int(np.prod(factor.rows, dtype=int)) for factor in product.factors.values())
