"""Draws of a Gaussian moved to the posterior by Hamiltonian trajectories, where it is standard normal.

There log p = -½|ε|² + r(ε). The first term's motion is a rotation and exact, so that steps are short only as far as r
bends them, in any number of dimensions (Shahbaba, Lan, Johnson and Neal 2014). Chains that begin at draws of q have
forgotten after a few turns where they began: what many dimensions of skewness take from importance
weights, they mend at a cost that a Gaussian near the posterior makes small.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from jensen._core import Outcome, Progress
from jensen._families import Chains, FullRank
from jensen._gaussian import account
from jensen._math.mixing import mixing
from jensen._model import Target

CHAINS, ROUND, WARM, ROUNDS = 4, 120, 40, 8
"""Chains, trajectories of each between two looks at r̂, those before draws are kept, and the most rounds."""
TURN = (0.4 * np.pi, 0.9 * np.pi)
"""Lengths of trajectories: of one length, a coordinate whose sd is another part of q's may come back to where it was.
Most turn beyond a quarter, so that draws fall on both sides of the mean in turn."""
STEPS, LEAST, MOST, ACCEPTED, PLENTY = 5, 3, 20, 0.6, 0.95
"""Steps of a trajectory at first, least and most; the share accepted below which they are doubled, above which one
less will do."""
MIXED, ENOUGH, APART, FEW = 1.01, 1000.0, 1.05, 100.0
"""r̂ and effective draws at which chains end; those beyond which they are not kept."""
DIVERGED = 1000.0
"""Nats that a trajectory that has run away has lost."""
DOUBT = 3.0
"""How far off the reckoned times of two programs may be beside each other. A verdict may hang on this stage, the last:
it is left out where it is dearer beyond doubt, and ends by itself where chains do not mix."""


@dataclass
class _State:
    """Where the chains are: (chains, D) standard coordinates, r and its gradient there."""

    white: np.ndarray
    extra: np.ndarray
    force: np.ndarray


def affordable(target: Target) -> bool:
    """Whether the warm-up and two rounds of trajectories cost no more than the last stage of a fit may."""
    return _seconds(target, STEPS * (WARM + 2 * ROUND)) < DOUBT * account.for_last(target)


def _seconds(target: Target, steps: int) -> float:
    """So many steps of all chains, side by side."""
    return target.price.seconds(CHAINS * steps, steps)


def moved(target: Target, q: FullRank, seed: int, outcome: Outcome) -> Generator[Progress, None, Outcome]:
    """The outcome with draws of chains from q, where these agree; else as it was, and why.

    q is a Gaussian that `outcome` ended at, over the coordinates of `target`.
    """
    rng, whole, left = np.random.default_rng([seed, 83]), target, DOUBT * account.for_last(target)
    target = target.in_batches(CHAINS)
    mean, factor = np.asarray(q.loc, float), q.factor()
    state = _at(target, mean, factor, rng.normal(size=(CHAINS, len(mean))))
    steps, spent, kept, runaways = STEPS, 0, [], 0
    for _ in range(4):
        state, _, accepted, _ = _round(target, mean, factor, state, steps, WARM // 4, rng)
        spent += steps * (WARM // 4)
        if accepted < ACCEPTED or accepted > PLENTY:
            steps = int(np.clip(2 * steps if accepted < ACCEPTED else steps - 1, LEAST, MOST))
    rhat, effective = np.inf, 0.0
    for number in range(ROUNDS):
        if _seconds(whole, spent + steps * ROUND) > left:
            break
        state, points, accepted, lost = _round(target, mean, factor, state, steps, ROUND, rng)
        spent, runaways = spent + steps * ROUND, runaways + lost
        kept.append(points)
        found = mixing(np.concatenate(kept, axis=1))
        rhat, effective = float(found[0].max()), float(found[1].min())
        yield Progress("trajectories", number, np.nan, q, f"r̂ {rhat:.3f}, {effective:.0f} effective draws")
        if rhat < MIXED and effective >= ENOUGH:
            break
        if effective * ROUNDS < FEW * (number + 1):
            break  # at this rate they will not do
    whole.gradients += CHAINS * (1 + spent)  # a copy has counted them
    how = f"{CHAINS} chains of {ROUND * len(kept)} Hamiltonian trajectories from draws of the Gaussian"
    how += f" (r̂ = {rhat:.3f}, {effective:.0f} effective draws)."
    if not (rhat < APART and effective >= FEW):
        return replace(outcome, status=f"{outcome.status} Tried without gain: {how}")
    chains = Chains(np.concatenate(kept, axis=1), np.asarray(runaways), mean, q.scales())
    return replace(outcome, q=chains, converged=rhat < MIXED, status=f"{outcome.status} Its draws were moved by {how}")


def _at(target: Target, mean: np.ndarray, factor: np.ndarray, white: np.ndarray) -> _State:
    """r and its gradient; where the density is not finite, -∞ and no force."""
    values, slopes = target.value_and_grad(mean + white @ factor.T)
    fine = np.isfinite(values) & np.isfinite(slopes).all(axis=1)
    extra = np.where(fine, values + 0.5 * (white**2).sum(axis=1), -np.inf)
    return _State(white, extra, np.where(fine[:, None], slopes @ factor + white, 0.0))


def _round(
    target: Target,
    mean: np.ndarray,
    factor: np.ndarray,
    state: _State,
    steps: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[_State, np.ndarray, float, int]:
    """(state, draws (chains, count, D), share accepted, trajectories that ran away) after `count` trajectories."""
    drawn, chances, lost = [], [], 0
    for _ in range(count):
        turn = rng.uniform(*TURN) / steps
        speed = rng.normal(size=state.white.shape)
        energy = state.extra - 0.5 * (state.white**2 + speed**2).sum(axis=1)
        there = state
        for _ in range(steps):
            speed = speed + 0.5 * turn * there.force
            white = np.cos(turn) * there.white + np.sin(turn) * speed
            speed = np.cos(turn) * speed - np.sin(turn) * there.white
            there = _at(target, mean, factor, white)
            speed = speed + 0.5 * turn * there.force
        with np.errstate(invalid="ignore"):
            gain = there.extra - 0.5 * (there.white**2 + speed**2).sum(axis=1) - energy
        chance = np.exp(np.minimum(np.nan_to_num(gain, nan=-np.inf, posinf=-np.inf), 0.0))
        taken = rng.uniform(size=len(chance)) < chance
        state = _State(
            np.where(taken[:, None], there.white, state.white),
            np.where(taken, there.extra, state.extra),
            np.where(taken[:, None], there.force, state.force),
        )
        drawn.append(mean + state.white @ factor.T)
        chances.append(chance.mean())
        lost += int(np.sum(~(gain > -DIVERGED)))
    return state, np.stack(drawn, axis=1), float(np.mean(chances)), lost
