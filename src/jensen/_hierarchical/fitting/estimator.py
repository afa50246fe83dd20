"""Which gradient a hierarchical family gets."""

from typing import Any

import jax.numpy as jnp

from jensen._core import AbstractBound
from jensen._estimators import (
    Blanket,
    Expected,
    Mixed,
    Pathwise,
    Reparameterised,
    Scored,
    ScoreFunction,
    StickingTheLanding,
    Stratified,
)
from jensen._hierarchical.family import Hierarchical
from jensen._hierarchical.nested_estimator import GAIN, Nested
from jensen._model.native import NativeTarget
from jensen._program.analysis import placeholders
from jensen._program.dependence import Links, links

LOOKUPS = 256
"""Values of a block's rows of a site up to which each of them is looked at, for every draw."""
LEAST, SCORED = 4, 4
"""Draws of λ for each component, at least; of z for each λ where some of it is scored."""


def estimator_for(target: NativeTarget, q: Hierarchical, bound: AbstractBound, num_draws: int) -> Any:
    """The quietest that applies; the components of a mixture prior are summed out wherever the bound allows it."""
    strata = q.num_strata
    outer = max(2, num_draws // strata)
    factors = q.likelihood.factors
    smooth = target.differentiable and all(factor.reparameterised for factor in factors.values())
    if not bound.linear:
        count = bound.group * max(2, num_draws // bound.group)
        return ScoreFunction(count, pathwise=target.differentiable)
    reverse_scored = q.importance and q.auxiliary.scores(q.whole_prior)
    inner: Any
    if reverse_scored:
        inner = ScoreFunction(max(4, outer), pathwise=target.differentiable)
    elif smooth:
        inner = Pathwise(outer) if q.auxiliary.follows else StickingTheLanding(outer)
    else:
        inner = nested(target, q, outer)
    return Stratified(inner) if strata > 1 else inner


def nested(target: NativeTarget, q: Hierarchical, num_draws: int) -> Nested:
    """Sums over small supports, reparameterisation, and scores with leave-one-out baselines for what is left."""
    recipes, inside = recipes_for(target, q, augmented_links(target, q))
    # r that moves with the prior cancels log q(ψ) draw by draw only if both are differentiated in full.
    return Nested(Mixed(recipes, inside), max(LEAST, num_draws // 2), stick=not q.auxiliary.follows)


def recipes_for(target: NativeTarget, q: Hierarchical, found: Links) -> tuple[dict[str, Any], int]:
    """Each site's gradient given λ, and how many draws of z the neediest of them takes."""
    recipes: dict[str, Any] = {}
    for name, factor in q.likelihood.factors.items():
        support = factor.support()
        if support is not None and (found.separable(name) or found.together(name) * support.shape[0] <= LOOKUPS):
            recipes[name] = Expected(found)
        elif factor.reparameterised and target.differentiable:
            recipes[name] = Reparameterised()
        else:
            recipes[name] = Scored(Blanket(found))
    scored = any(isinstance(recipe, Scored) for recipe in recipes.values())
    return recipes, SCORED if scored else 2


def augmented_links(target: NativeTarget, q: Hierarchical) -> Links:
    """Who depends on whom in log p(x, z) together with log r(ψ | z)."""
    part = target.subsample
    model = target.model if part is None else part.model.on(part.first())
    structure = target.structure if part is None else part.structure
    q = q.at(target.batch())
    point = jnp.zeros(q.dim)

    def log_joint(value: Any) -> dict[str, Any]:
        terms = dict(model.log_joint(value))
        if q.importance:
            return terms | {GAIN: q.log_given(point, value) - q.log_ratio(point, value)}
        return terms | q.reverse(point, value)

    rows = {name: factor.rows for name, factor in q.likelihood.factors.items()}
    return links(log_joint, placeholders(structure), rows)
