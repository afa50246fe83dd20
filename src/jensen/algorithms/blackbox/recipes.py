"""Which gradient each factor gets, by measured variance; the candidates cost the same evaluations of the model."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen.bounds import ELBO
from jensen.estimators import Blanket, Expected, Mixed, Regressed, Reparameterised, Scored
from jensen.estimators.mixed import AbstractRecipe
from jensen.families.native import AbstractFactor, Product
from jensen.math.programs import Program
from jensen.models.dependence import Links
from jensen.models.native import NativeTarget

REPLICATES = 24
LOOKUPS = 512
"""Evaluations of the log joint for each draw up to which every value of every row is looked at."""


@dataclass(frozen=True)
class Choice:
    """The gradient chosen for a factor, and the variance of each candidate as a multiple of the chosen one's."""

    factor: str
    chosen: str
    recipe: AbstractRecipe
    measured: dict[str, float]

    def __str__(self) -> str:
        others = ", ".join(f"{name} {value:.2g}" for name, value in self.measured.items() if name != self.chosen)
        return f"{self.factor}: {self.chosen}" + (f" (relative variance of the others: {others})" if others else "")


def candidates(name: str, factor: AbstractFactor, links: Links, differentiable: bool) -> dict[str, AbstractRecipe]:
    """The gradients that a factor can have, by name."""
    support = factor.support()
    if support is not None:
        together = links.separable(name)
        if together or int(np.prod(factor.rows, dtype=int)) * support.shape[0] <= LOOKUPS:
            return {"local expectation": Expected(links)}
    if factor.reparameterised and differentiable:
        found: dict[str, AbstractRecipe] = {
            "path derivative": Reparameterised(stick=True),
            "pathwise": Reparameterised(),
        }
        if factor.entropy() is not None:
            found["pathwise, exact entropy"] = Reparameterised(exact_entropy=True)
        return found
    return {
        "regression on controls": Regressed(Blanket(links)),
        "score, leave-one-out": Scored(),
        "score over the Markov blanket": Scored(Blanket(links)),
    }


def planned(factor: AbstractFactor, differentiable: bool) -> str:
    """What a factor will be and which gradients it can have, in words; the choice is made by measured variance."""
    family = f"{type(factor).__name__} factor"
    if factor.support() is not None:
        return f"{family}: local expectation over its {factor.support().shape[0]} values, else the score with controls"  # type: ignore[union-attr]
    if factor.reparameterised and differentiable:
        return f"{family}: the pathwise gradient of least measured variance"
    return f"{family}: the score gradient, with the controls of least measured variance"


def choose(
    target: NativeTarget, q: Product, links: Links, num_draws: int, key: Any, only: Mapping[str, AbstractRecipe]
) -> list[Choice]:
    """The best candidate of each factor at this q, from `REPLICATES` gradients of each.

    The candidates of different factors are measured side by side, one of each in every program.
    """
    options = {
        name: {"given": only[name]} if name in only else candidates(name, factor, links, target.differentiable)
        for name, factor in q.factors.items()
    }
    rounds = max(len(found) for found in options.values())
    measured: dict[str, dict[str, float]] = {name: {} for name in options}
    if rounds > 1:
        turns = [
            {name: list(found.items())[min(turn, len(found) - 1)] for name, found in options.items()}
            for turn in range(rounds)
        ]
        estimators = tuple(Mixed({name: recipe for name, (_, recipe) in t.items()}, num_draws) for t in turns)
        measure = Program(functools.partial(_replicates, estimators))
        gradients = measure(target.model, q, jr.split(key, REPLICATES))
        target.gradients += rounds * REPLICATES * num_draws
        for picked, found in zip(turns, gradients, strict=True):
            for name, (label, _) in picked.items():
                measured[name].setdefault(label, whitened_variance(found.factors[name], q.factors[name]))
    out = []
    for name, found in options.items():
        if len(found) == 1:
            label = next(iter(found))
            out.append(Choice(name, label, found[label], {}))
            continue
        label = min(found, key=lambda label, name=name: measured[name][label])
        least = max(measured[name][label], 1e-300)
        out.append(Choice(name, label, found[label], {k: v / least for k, v in measured[name].items()}))
    return out


def whitened_variance(gradients: Any, factor: AbstractFactor) -> float:
    """Σ Var(g) / F over a factor's coordinates."""
    pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(factor.information()), strict=True)
    return float(
        sum(np.sum(np.var(np.asarray(g), axis=0, ddof=1) / np.maximum(np.asarray(f), 1e-12)) for g, f in pairs)
    )


def _replicates(estimators: Any, model: Any, q: Any, keys: Any) -> Any:
    """Gradients of each estimator, (replicates, ...), all from the same draws: samplers are what is slow to compile."""

    def one(key: Any) -> Any:
        def draw(q: Any) -> tuple[Any, Any]:
            values = estimators[0].values(q, key)
            return eqx.partition(values, eqx.is_inexact_array)

        values, pull, counts = jax.vjp(draw, q, has_aux=True)

        def bound(estimator: Any, q: Any, values: Any) -> Any:
            return estimator.at(ELBO(), model, q, None, eqx.combine(values, counts))

        found = [jax.grad(lambda q, v, e=e: bound(e, q, v), argnums=(0, 1))(q, values) for e in estimators]
        if not jax.tree.leaves(values):  # counts only: no gradient comes through the draws
            return tuple(direct for direct, _ in found)
        through = jax.vmap(pull)(jax.tree.map(lambda *parts: jnp.stack(parts), *(f[1] for f in found)))[0]
        return tuple(
            jax.tree.map(lambda direct, moved, i=i: direct + moved[i], f[0], through) for i, f in enumerate(found)
        )

    return jax.lax.map(one, keys, batch_size=8)


def chosen_estimator(target: NativeTarget, q: Product, links: Links, num_draws: int, key: Any) -> Mixed:
    """The estimator that `bbvi` would use at this q."""
    return Mixed({c.factor: c.recipe for c in choose(target, q, links, num_draws, key, {})}, num_draws)


def total_draws(q: Product, recipes: Mapping[str, AbstractRecipe], wanted: int) -> int:
    """Draws for each step: those wanted, or as many as a recipe needs."""
    return max([wanted, *(recipe.least(q.factors[name]) for name, recipe in recipes.items())])


__all__ = ["Choice", "candidates", "choose", "chosen_estimator", "planned", "total_draws", "whitened_variance"]
