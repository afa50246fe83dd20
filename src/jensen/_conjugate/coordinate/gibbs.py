"""On from coordinate ascent: Gibbs sweeps, whose conditionals are the ascent's own updates at points.

The natural parameters of a block's complete conditional p(z_j | z_-j, x) are ∇ of the log joint in t(z_j): the function
that coordinate ascent computes at moments (Bishop 2006, sections 8.3 and 11.3), here at t(z_-j). Draws of it, block
after block, leave the posterior as it is, and from draws of q chains gain what the factors ignore, dependence.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._conjugate.algebra import ConjugateModel, Moments
from jensen._conjugate.coordinate.solution import Solution
from jensen._conjugate.coordinate.weighing import chosen_weigher
from jensen._core import Outcome, Progress
from jensen._families.exponential import Product
from jensen._math.keys import host_keys
from jensen._math.mixing import mixing
from jensen._math.precision import working
from jensen._math.programs import Program

CHAINS, ROUND, THIN = 4, 500, 5
"""Chains, sweeps of each between two looks at r̂, and sweeps between two draws that are kept."""
APART, FEW, ENOUGH = 1.05, 100.0, 200.0
"""r̂ above which draws are not believed; effective draws of which they are worth something, and that are enough."""
SLACK = 2.0
"""How far from enough draws are after which sweeps are given up."""
STATE, EFFORT, ROUNDS = 40, 6e9, 12
"""Data values that take as long to read as one number takes to draw; how many all sweeps may take; the most rounds."""


@dataclass(frozen=True, eq=False)
class Swept:
    """Factors, and beside them draws that Gibbs sweeps have moved from them to the posterior.

    Attributes:
        factors: where the ascent ended. points: (chains, draws, D), the latents that are not integrated out.
    """

    factors: Solution
    points: np.ndarray

    @property
    def target(self) -> Any:
        """The model."""
        return self.factors.target

    def __repr__(self) -> str:
        return f"Swept({self.factors}, {self.points.shape[0]} chains of {self.points.shape[1]} draws)"


def affordable(solution: Solution) -> int:
    """Rounds of sweeps that `EFFORT` allows, with the warm-up; 0 where that is not enough to be worth it."""
    model = solution.target.model
    drawn = sum(int(np.prod(shape)) for block in model.blocks.values() for shape in block.shapes.values())
    work = sum(np.size(array) for array in model.energy.arrays) + STATE * drawn
    rounds = min(ROUNDS, int(EFFORT / (CHAINS * ROUND * work)))
    return rounds if rounds > 2 and not any(block.point for block in model.blocks.values()) else 0


def swept(seed: int, outcome: Outcome) -> Generator[Progress, None, Outcome]:
    """The outcome with draws that sweeps have moved, where these mix; else as it was, and why.

    One chain more for each other optimum that holds evidence begins there. Where what no relabelling changes, the log
    joint and the sorted values of every latent, is distributed as in the chains from q, these reach that optimum too.
    """
    if not chosen_weigher(outcome.q).way.plan.exact:
        return outcome
    others = outcome.elsewhere[:CHAINS]
    kept: list[np.ndarray] = []
    rhat, effective, apart = np.inf, 0.0, 1.0
    most = affordable(outcome.q)
    for number, points in enumerate(_rounds(outcome.q, others, most, seed)):
        if number:  # the first is the warm-up
            kept.append(points)
            together = np.concatenate(kept, axis=1)
            rhat, effective = worst(together[:CHAINS])
            apart = worst(_unlabelled(outcome.q, together))[0] if others else 1.0
        note = f"r̂ {max(rhat, apart):.3f}, {effective:.0f} effective draws"
        yield Progress("Gibbs sweeps", number, outcome.certificate["elbo"], outcome.q, note)
        if rhat < APART and effective >= ENOUGH and apart < APART:
            break
        if number and _hopeless(max(rhat, apart), effective, (most - 1) / number):
            break
    how = f"{CHAINS} chains of {ROUND * len(kept)} Gibbs sweeps from draws of q (r̂ = {rhat:.3f}, {effective:.0f} "
    how += f"effective draws{f'; r̂ = {apart:.3f} with {len(others)} from other optima' if others else ''})."
    if not (rhat < APART and effective >= FEW and apart < APART):
        return replace(outcome, status=f"{outcome.status} Tried without gain: {how}")
    facts = replace(outcome.certificate, share_elsewhere=0.0)
    status = f"{outcome.status} Its draws were moved by {how}"
    return replace(outcome, q=Swept(outcome.q, np.concatenate(kept, axis=1)[:CHAINS]), status=status, certificate=facts)


def _hopeless(rhat: float, effective: float, times: float) -> bool:
    """Whether so many times as many draws would be far from enough: r̂ - 1 falls like their inverse at the fastest."""
    return rhat - 1.0 > SLACK * (APART - 1.0) * times or SLACK * effective * times < FEW


def worst(points: np.ndarray) -> tuple[float, float]:
    """(the largest r̂, the fewest effective draws) of all columns of (chains, draws, D)."""
    rhat, effective = mixing(points)
    return float(rhat.max()), float(effective.min())


def _unlabelled(solution: Solution, points: np.ndarray) -> np.ndarray:
    """What stays as it is under every relabelling: the log joint, and each latent's values in their order."""
    weigher, flat = chosen_weigher(solution), points.reshape(-1, points.shape[-1])
    values, columns, start = {}, [], 0
    for site in weigher.way.weighed:
        shape = solution.infos[site].shape
        part = flat[:, start : start + int(np.prod(shape, dtype=int))]
        start += part.shape[1]
        kind = np.int32 if solution.infos[site].values is not None else float
        values[site] = part.reshape(-1, *shape).astype(kind)
        columns.append(np.sort(part, axis=1))
    columns.append(weigher(values, len(flat))[0][:, None])
    return np.concatenate(columns, axis=1).reshape(*points.shape[:2], -1)


def _rounds(solution: Solution, others: Sequence[Solution], count: int, seed: int) -> Generator[np.ndarray, None, None]:
    """Draws of every round, (chains, ROUND / THIN, D), those from other optima last.

    The first sweep begins at moments of factors, and so draws from them.
    """
    model, arrays = solution.target.model, solution.target.model.energy.arrays
    with working(solution.precision):
        starts = [jax.device_get(_MOMENTS(one.product())) for one in (*(CHAINS * (solution,)), *others)]
        state = jax.tree.map(lambda *parts: np.stack(parts), *starts)
        sites = tuple(chosen_weigher(solution).way.weighed)
        program = model.program(("Gibbs sweeps", sites), partial(_sweeps, sites), "middle")
        for number in range(count):
            state, found = program(arrays, state, host_keys(seed + number, "Gibbs sweeps", len(starts)))
            yield np.asarray(found, float)


def _moments(q: Product) -> Moments:
    return {name: factor.mean_params() for name, factor in q.factors.items()}


_MOMENTS = Program(_moments)


def _sweeps(
    sites: tuple[str, ...], model: ConjugateModel, arrays: Any, moments: Moments, keys: Any
) -> tuple[Moments, Array]:
    """(t(z) after a round of sweeps, the values of `sites` after every `THIN`, flat), for every chain."""
    model = model.with_arrays(arrays)

    def sweep(carry: tuple[Moments, Any], key: PRNGKey) -> tuple[tuple[Moments, Any], None]:
        moments, values = carry
        for place, (name, block) in enumerate(model.blocks.items()):
            factor = model.factor(name, model.message(name, moments))
            drawn = factor.draw(jax.random.fold_in(key, place))
            point = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), factor.statistics(*drawn), moments[name])
            moments = {**moments, name: point}
            values = {**values, **{s: v for s, v in zip(block.sites, drawn, strict=True) if s in sites}}
        return (moments, values), None

    def kept(moments: Moments, key: PRNGKey) -> tuple[Moments, Array]:
        begin = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(values_of, moments, key))
        (moments, values), _ = jax.lax.scan(sweep, (moments, begin), jax.random.split(key, THIN))
        return moments, jnp.concatenate([jnp.ravel(values[site]) for site in sites])

    def values_of(moments: Moments, key: PRNGKey) -> Any:
        return sweep((moments, {}), key)[0][1]

    def chain(moments: Moments, key: Array) -> tuple[Moments, Array]:
        return jax.lax.scan(kept, moments, jax.random.split(jax.random.wrap_key_data(key), ROUND // THIN))

    return jax.vmap(chain)(moments, keys)
