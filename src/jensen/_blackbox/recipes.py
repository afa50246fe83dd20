"""Which gradient each factor gets, by measured variance and counted work."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jensen._blackbox.measure import coordinates, cost, replicates, whitened_variance
from jensen._estimators import Blanket, Expected, Mixed, Regressed, Reparameterised, Scored
from jensen._estimators.neighbours import neighbours
from jensen._estimators.recipes import AbstractRecipe
from jensen._estimators.regression import parameters
from jensen._families.native import AbstractFactor, Product
from jensen._families.native.contract import COORDINATES
from jensen._math.keys import split
from jensen._math.programs import Program
from jensen._model.native import NativeTarget
from jensen._program.dependence import Links

REPLICATES = 24
LOOKUPS = 512
"""Evaluations of the log joint for each draw up to which every value of every row of a block is looked at."""


QUIET = 0.01
"""Variance of a step, in units of Fisher information, below which less of it does not shorten a fit."""
HOPELESS = 20.0
"""Variance over the least at which a gradient is passed over unweighed: none is that much less work than another."""
QUIETED, CONTROLLED = "neighbours averaged out", "controls"
"""How a gradient is called that does without the noise of other latents' draws, and one that is regressed on scores."""
MEASURING = 5e9
"""Operations that measuring costs, nearly all of them in compilation: so much work is done before others are looked at.
"""


@dataclass(frozen=True)
class Choice:
    """The gradient chosen for a factor; variance, and variance × work, of each candidate over the chosen one's."""

    factor: str
    chosen: str
    recipe: AbstractRecipe
    measured: dict[str, float]
    weighed: dict[str, float]

    def __str__(self) -> str:
        def figures(label: str) -> str:
            work = f" ({self.weighed[label]:.2g} with work)" if label in self.weighed else ""
            return f"{label} {self.measured[label]:.2g}{work}"

        others = ", ".join(figures(label) for label in self.measured if label != self.chosen)
        return f"{self.factor}: {self.chosen}" + (f" (relative variance of the others: {others})" if others else "")


@dataclass(frozen=True)
class Chosen:
    """The gradients of all factors, and the draws for each step.

    `open` where measuring could choose others; `unsure` where that is a score with the noise of all other latents in
    it: which of these is the quietest is not known beforehand, and which optimum is found hangs on it.
    """

    choices: tuple[Choice, ...]
    num_draws: int
    open: bool = False
    unsure: bool = False

    def estimator(self) -> Mixed:
        """All of them from the same draws."""
        return Mixed({choice.factor: choice.recipe for choice in self.choices}, self.num_draws)

    def __str__(self) -> str:
        why = " (taken without measuring others, which is more work than the fit)" if self.open else ""
        return f"{'; '.join(map(str, self.choices))}; {self.num_draws} draws a step{why}"


def candidates(name: str, q: Product, links: Links, differentiable: bool) -> dict[str, AbstractRecipe]:
    """The gradients that a factor can have, by name."""
    factor = q.factors[name]
    support = factor.support()
    if support is not None and (links.separable(name) or links.together(name) * support.shape[0] <= LOOKUPS):
        return {"local expectation": Expected(links)}
    blanket, quiet = Blanket(links), bool(neighbours(q, links, name))
    if factor.reparameterised and differentiable:
        found: dict[str, AbstractRecipe] = {"path derivative": Reparameterised(stick=True)}
        exact = jax.eval_shape(lambda f: f.entropy(), factor) is not None  # computing it would compile programs
        found["pathwise, exact entropy" if exact else "pathwise"] = Reparameterised(exact_entropy=exact)
        if parameters(factor) <= COORDINATES:
            found["path derivative, controls"] = Reparameterised(stick=True, controls=True)
            if quiet:
                averaging = Reparameterised(stick=True, controls=True, neighbours=links)
                found[f"path derivative, controls, {QUIETED}"] = averaging
            else:
                found["regression on controls"] = Regressed(blanket)
        return {**found, "score over the Markov blanket": Scored(blanket)}
    averaging = {f"regression on controls, {QUIETED}": Regressed(blanket, links)} if quiet else {}
    return {
        **averaging,
        "regression on controls": Regressed(blanket),
        "score, leave-one-out": Scored(),
        "score over the Markov blanket": Scored(blanket),
    }


def options_of(target: NativeTarget, q: Product, links: Links) -> dict[str, dict[str, AbstractRecipe]]:
    """Site -> the gradients that its factor can have, by name."""
    options = {}
    for name, factor in q.factors.items():
        smooth = target.differentiable and (not factor.circular or target.periodic(name))
        options[name] = candidates(name, q, links, smooth)
    return options


def presumed(target: NativeTarget, q_all: Product, links: Links, num_draws: int) -> Chosen:
    """For each factor the gradient with the most taken out of its variance, whatever its work; nothing is measured."""
    q = q_all.at(target.batch())
    choices = []
    options = options_of(target, q, links)
    for name, found in options.items():
        label = max(found, key=lambda label: (QUIETED in label, CONTROLLED in label))
        choices.append(Choice(name, label, found[label], {}, {}))
    several = [choice for choice in choices if len(options[choice.factor]) > 1]
    loud = any(q.factors[c.factor].discrete and QUIETED not in c.chosen for c in several)
    draws = total_draws(q, {c.factor: c.recipe for c in choices}, num_draws)
    return Chosen(tuple(choices), draws, bool(several), loud)


def planned(factor: AbstractFactor, differentiable: bool) -> str:
    """What a factor will be and which gradients it can have, in words; variance and work decide at the start."""
    family = f"{type(factor).__name__} factor"
    if factor.support() is not None:
        return f"{family}: local expectation over its {factor.support().shape[0]} values, else the score with controls"  # type: ignore[union-attr]
    if factor.reparameterised and differentiable:
        return f"{family}: the pathwise gradient, or the score with controls, by measured variance and work"
    return f"{family}: the score gradient, with controls by measured variance and work"


def choose(target: NativeTarget, q_all: Product, links: Links, num_draws: int, key: Any) -> Chosen:
    """For each factor the gradient of least variance × work at this q: its own variance, the operations of a step.

    Factors share draws and evaluations of the log joint, so that the work of one's gradient depends on the others':
    factors choose in turn, the others being as they are, until none changes. Variances come from `REPLICATES` gradients
    of each candidate, those of different factors side by side, one of each in every program; where steps are on batches
    those in what all rows share are each on another batch, whose noise no gradient of these rows is without. Operations
    are counted in the traced program, so that a seed gives the same choice everywhere.
    """
    q = q_all.at(target.batch())
    options = options_of(target, q, links)
    rounds = max(len(found) for found in options.values())
    enough = max([num_draws, *(r.least(q.factors[n]) for n, found in options.items() for r in found.values())])
    variance: dict[str, dict[str, float]] = {name: dict.fromkeys(found, 0.0) for name, found in options.items()}
    floor: dict[str, float] = {}
    if rounds > 1:
        turns = [
            {name: list(found.items())[min(turn, len(found) - 1)] for name, found in options.items()}
            for turn in range(rounds)
        ]
        estimators = tuple(Mixed({name: recipe for name, (_, recipe) in t.items()}, enough) for t in turns)
        measure = Program(functools.partial(replicates, estimators))
        counts = dict(q.weights)
        for mixed in (False, True) if target.subsample is not None else (False,):
            batches = target.batches(REPLICATES, mixed)
            gradients = measure(target.step_model, q_all, batches, split(key, REPLICATES))
            target.gradients += rounds * REPLICATES * enough
            for picked, found in zip(turns, gradients, strict=True):
                for name, (label, _) in picked.items():
                    if mixed and name in counts:
                        continue  # other rows, so that their gradients differ by more than noise
                    seen = whitened_variance(found.factors[name], q.factors[name], counts.get(name, 1.0))
                    if mixed:
                        others = max(0.0, seen - variance[name][label] / enough)
                        floor[name] = min(floor.get(name, np.inf), others)
                    else:  # as that of one draw
                        variance[name][label] = enough * seen if np.isfinite(seen) else np.inf
    plan, weighed = settled(options, variance, target, q, num_draws, floor)
    choices = []
    for name, found in options.items():
        least = min(max(variance[name][plan[name]], 1e-300), 1e300)
        relative = {label: v / least for label, v in variance[name].items()} if len(found) > 1 else {}
        choices.append(Choice(name, plan[name], found[plan[name]], relative, weighed[name]))
    return Chosen(tuple(choices), total_draws(q, {c.factor: c.recipe for c in choices}, num_draws))


Options = dict[str, dict[str, AbstractRecipe]]
Variance = dict[str, dict[str, float]]


class _Steps:
    """Plan (site -> label of its gradient) -> operations and draws of a step; each plan is traced once."""

    def __init__(self, options: Options, target: NativeTarget, q: Product, num_draws: int) -> None:
        self.options, self.target, self.q, self.num_draws = options, target, q, num_draws
        self.known: dict[tuple[str, ...], float] = {}

    def picked(self, plan: dict[str, str]) -> dict[str, AbstractRecipe]:
        return {name: self.options[name][label] for name, label in plan.items()}

    def draws(self, plan: dict[str, str]) -> int:
        return total_draws(self.q, self.picked(plan), self.num_draws)

    def __call__(self, plan: dict[str, str]) -> tuple[float, int]:
        labels, draws = tuple(plan.values()), self.draws(plan)
        if labels not in self.known:
            self.known[labels] = cost(Mixed(self.picked(plan), draws), self.target, self.q)
        return self.known[labels], draws


def settled(
    options: Options,
    variance: Variance,
    target: NativeTarget,
    q: Product,
    num_draws: int,
    floor: Mapping[str, float] | None = None,
) -> tuple[dict[str, str], Variance]:
    """(label of each factor's gradient, variance × work of its candidates over the chosen one's).

    A gradient that could not win with as little work as the plain score of its factor is not weighed: that takes
    tracing. `floor` is the variance that all gradients of a factor have beside that of the draws: from batch to batch.
    """
    beside = dict(floor or {})
    step = _Steps(options, target, q, num_draws)

    def noise(name: str, label: str, draws: int) -> float:
        return QUIET + (beside.get(name, 0.0) + variance[name][label] / draws) / max(1, coordinates(q.factors[name]))

    def least(name: str, label: str) -> int:
        return max(num_draws, options[name][label].least(q.factors[name]))

    def quiet(name: str, label: str) -> float:
        """The noise at the draws of its step."""
        return noise(name, label, step.draws({**plan, name: label}))

    # At equal draws: more of them cost as much more as they take from the variance.
    quietest = {name: min(noise(name, label, num_draws) for label in found) for name, found in options.items()}
    dearest = {n: min(found, key=lambda label, n=n: noise(n, label, num_draws)) for n, found in options.items()}
    plainest = {name: list(found)[-1] for name, found in options.items()}
    # No plan is less work than the plain scores, so that what is noisier than this cannot make up for it.
    limit = HOPELESS
    if any(len(found) > 1 for found in options.values()):
        limit = min(HOPELESS, max(1.0, step(dearest)[0] / step(plainest)[0]))
    hopeful, plan = {}, {}
    for name, found in options.items():
        hopeful[name] = [label for label in found if noise(name, label, num_draws) <= limit * quietest[name]]
        plan[name] = min(
            hopeful[name], key=lambda label, name=name: least(name, label) * noise(name, label, least(name, label))
        )
    weighed: Variance = {name: {plan[name]: 1.0} for name in options}
    for _ in range(1 + len(options)):
        before = dict(plan)
        for name, labels in hopeful.items():
            if len(labels) > 1:
                work: dict[str, float] = {}
                fewest, _ = step({**plan, name: plainest[name]})
                for label in sorted(labels, key=lambda label, name=name: (label != plan[name], quiet(name, label))):
                    if not work or fewest * quiet(name, label) < min(work.values()):  # tracing takes its time
                        operations, draws = step({**plan, name: label})
                        work[label] = operations * noise(name, label, draws)
                plan[name] = min(work, key=lambda label, work=work: work[label])
                weighed[name] = {label: one / work[plan[name]] for label, one in work.items()}
        if plan == before:
            break
    return plan, weighed


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
    "options_of",
    "planned",
    "presumed",
    "settled",
    "total_draws",
]
