"""Which gradient each factor gets, by measured variance and counted work."""

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
from jensen.estimators.regression import COORDINATES, parameters
from jensen.families.native import AbstractFactor, Product
from jensen.math.operations import operations
from jensen.math.programs import Program
from jensen.models.dependence import Links
from jensen.models.native import NativeTarget

REPLICATES = 24
LOOKUPS = 512
"""Evaluations of the log joint for each draw up to which every value of every row is looked at."""


NOISE = 2.0
"""Steps that noise asks for, per unit of variance (of a step, units of Fisher information), over those of a quiet fit.

Means over half a chunk of 200 steps must agree to 0.05 sd: their variance v / n is 0.05² at n = 400 v.
"""


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


@dataclass(frozen=True)
class Chosen:
    """The gradients of all factors, draws for each step, and the work of the alternatives relative to this."""

    choices: tuple[Choice, ...]
    num_draws: int
    work: dict[str, float]

    def estimator(self) -> Mixed:
        """All of them from the same draws."""
        return Mixed({choice.factor: choice.recipe for choice in self.choices}, self.num_draws)

    def __str__(self) -> str:
        work = ", ".join(f"{name} {value:.2g}" for name, value in self.work.items())
        beyond = f". Work (operations × steps for the noise) of the alternatives, relative: {work}" if work else ""
        return f"{'; '.join(map(str, self.choices))}; {self.num_draws} draws a step{beyond}"


def candidates(name: str, factor: AbstractFactor, links: Links, differentiable: bool) -> dict[str, AbstractRecipe]:
    """The gradients that a factor can have, by name."""
    support = factor.support()
    if support is not None:
        together = links.separable(name)
        if together or int(np.prod(factor.rows, dtype=int)) * support.shape[0] <= LOOKUPS:
            return {"local expectation": Expected(links)}
    blanket = Blanket(links)
    if factor.reparameterised and differentiable:
        found: dict[str, AbstractRecipe] = {"path derivative": Reparameterised(stick=True)}
        exact = factor.entropy() is not None
        found["pathwise, exact entropy" if exact else "pathwise"] = Reparameterised(exact_entropy=exact)
        if parameters(factor) <= COORDINATES:
            found["path derivative, controls"] = Reparameterised(stick=True, controls=True)
            found["regression on controls"] = Regressed(blanket)
        return {**found, "score over the Markov blanket": Scored(blanket)}
    return {
        "regression on controls": Regressed(blanket),
        "score, leave-one-out": Scored(),
        "score over the Markov blanket": Scored(blanket),
    }


def planned(factor: AbstractFactor, differentiable: bool) -> str:
    """What a factor will be and which gradients it can have, in words; variance and work decide at the start."""
    family = f"{type(factor).__name__} factor"
    if factor.support() is not None:
        return f"{family}: local expectation over its {factor.support().shape[0]} values, else the score with controls"  # type: ignore[union-attr]
    if factor.reparameterised and differentiable:
        return f"{family}: the pathwise gradient, or the score with controls, by measured variance and work"
    return f"{family}: the score gradient, with controls by measured variance and work"


def choose(target: NativeTarget, q: Product, links: Links, num_draws: int, key: Any) -> Chosen:
    """The gradients that promise the least work at this q: operations of a step times the steps that noise asks for.

    Variances come from `REPLICATES` gradients of each candidate, those of different factors side by side, one of each
    in every program. Operations are counted in the traced program, so that a seed gives the same choice everywhere.
    """
    options = {}
    for name, factor in q.factors.items():
        smooth = target.differentiable and (not factor.circular or target.periodic(name))
        options[name] = candidates(name, factor, links, smooth)
    rounds = max(len(found) for found in options.values())
    enough = max([num_draws, *(r.least(q.factors[n]) for n, found in options.items() for r in found.values())])
    variance: dict[str, dict[str, float]] = {name: dict.fromkeys(found, 0.0) for name, found in options.items()}
    if rounds > 1:
        turns = [
            {name: list(found.items())[min(turn, len(found) - 1)] for name, found in options.items()}
            for turn in range(rounds)
        ]
        estimators = tuple(Mixed({name: recipe for name, (_, recipe) in t.items()}, enough) for t in turns)
        measure = Program(functools.partial(_replicates, estimators))
        gradients = measure(target.step_model, q, target.batch(), jr.split(key, REPLICATES))
        target.gradients += rounds * REPLICATES * enough
        for picked, found in zip(turns, gradients, strict=True):
            for name, (label, _) in picked.items():
                variance[name][label] = enough * whitened_variance(found.factors[name], q.factors[name])
    plans = _plans(options, variance, q, num_draws)
    best, draws, work = _least_work(target, q, options, variance, plans, num_draws)
    choices = []
    for name, found in options.items():
        least = max(variance[name][best[name]], 1e-300)
        relative = {label: v / least for label, v in variance[name].items()} if len(found) > 1 else {}
        choices.append(Choice(name, best[name], found[best[name]], relative))
    return Chosen(tuple(choices), draws, work)


Options = dict[str, dict[str, AbstractRecipe]]
Variance = dict[str, dict[str, float]]


def _plans(options: Options, variance: Variance, q: Product, num_draws: int) -> dict[str, dict[str, str]]:
    """Whole assignments worth comparing, by name: factor -> label of its gradient."""

    def picked(allowed: Any, cost: Any) -> dict[str, str]:
        out = {}
        for name, found in options.items():
            labels = [label for label, recipe in found.items() if allowed(recipe)] or list(found)
            out[name] = min(labels, key=lambda label, name=name: variance[name][label] * cost(name, label))
        return out

    def draws(name: str, label: str) -> float:
        return max(1.0, options[name][label].least(q.factors[name]) / num_draws)

    path = isinstance_of(Reparameterised)
    found = {
        "least variance": picked(lambda recipe: True, lambda name, label: 1.0),
        "least variance for the draws needed": picked(lambda recipe: True, draws),
        "through the draws": picked(path, draws),
        "scores alone": picked(lambda recipe: not path(recipe), draws),
    }
    return {name: plan for i, (name, plan) in enumerate(found.items()) if plan not in list(found.values())[:i]}


def isinstance_of(kind: type) -> Any:
    """Whether something is of a kind, as a function."""
    return lambda value: isinstance(value, kind)


def _least_work(
    target: NativeTarget, q: Product, options: Options, variance: Variance, plans: Any, num_draws: int
) -> tuple[dict[str, str], int, dict[str, float]]:
    """(the plan of least work, its draws for each step, the work of the others relative to it)."""
    work, draws = {}, {}
    for label, plan in plans.items():
        picked = {name: options[name][chosen] for name, chosen in plan.items()}
        draws[label] = total_draws(q, picked, num_draws)
        if len(plans) == 1:
            return plan, draws[label], {}
        noise = max(
            variance[name][chosen] / (draws[label] * max(1, _coordinates(q.factors[name])))
            for name, chosen in plan.items()
        )
        work[label] = _cost(Mixed(picked, draws[label]), target, q) * (1.0 + NOISE * noise)
    best = min(work, key=lambda label: work[label])
    return plans[best], draws[best], {label: w / work[best] for label, w in work.items() if label != best}


def _coordinates(factor: AbstractFactor) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(factor))


def _cost(estimator: Mixed, target: NativeTarget, q: Product) -> float:
    """Operations of one gradient."""

    def gradient(model: Any, q: Any, batch: Any, key: Any) -> Any:
        return jax.grad(lambda q: estimator(ELBO(), model, q, batch, key))(q)

    return operations(jax.make_jaxpr(gradient)(target.step_model, q, target.batch(), jr.key(0)))


def whitened_variance(gradients: Any, factor: AbstractFactor) -> float:
    """Σ Var(g) / F over a factor's coordinates."""
    pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(factor.information()), strict=True)
    return float(
        sum(np.sum(np.var(np.asarray(g), axis=0, ddof=1) / np.maximum(np.asarray(f), 1e-12)) for g, f in pairs)
    )


def _replicates(estimators: Any, model: Any, q: Any, batch: Any, keys: Any) -> Any:
    """Gradients of each estimator, (replicates, ...), all from the same draws: samplers are what is slow to compile."""

    def one(key: Any) -> Any:
        def draw(q: Any) -> tuple[Any, Any]:
            values = estimators[0].values(q, key)
            return eqx.partition(values, eqx.is_inexact_array)

        values, pull, counts = jax.vjp(draw, q, has_aux=True)

        def bound(estimator: Any, q: Any, values: Any) -> Any:
            return estimator.at(ELBO(), model, q, batch, eqx.combine(values, counts))

        shared = [e for e in estimators if not e.controlled(q)]
        found = [jax.grad(lambda q, v, e=e: bound(e, q, v), argnums=(0, 1))(q, values) for e in shared]
        gradients = [direct for direct, _ in found]
        if jax.tree.leaves(values):  # with counts only no gradient comes through the draws
            through = jax.vmap(pull)(jax.tree.map(lambda *parts: jnp.stack(parts), *(f[1] for f in found)))[0]
            gradients = [
                jax.tree.map(lambda direct, moved, i=i: direct + moved[i], f[0], through) for i, f in enumerate(found)
            ]
        left = iter(gradients)
        return tuple(
            jax.grad(lambda q, e=e: e(ELBO(), model, q, batch, key))(q) if e.controlled(q) else next(left)
            for e in estimators
        )

    return jax.lax.map(one, keys, batch_size=8)


def chosen_estimator(target: NativeTarget, q: Product, links: Links, num_draws: int, key: Any) -> Mixed:
    """The estimator that `bbvi` would use at this q."""
    found = choose(target, q, links, num_draws, key)
    return Mixed({choice.factor: choice.recipe for choice in found.choices}, max(num_draws, found.num_draws))


def total_draws(q: Product, recipes: Mapping[str, AbstractRecipe], wanted: int) -> int:
    """Draws for each step: those wanted, or as many as a recipe needs."""
    return max([wanted, *(recipe.least(q.factors[name]) for name, recipe in recipes.items())])


__all__ = [
    "Choice",
    "Chosen",
    "candidates",
    "choose",
    "chosen_estimator",
    "planned",
    "total_draws",
    "whitened_variance",
]
