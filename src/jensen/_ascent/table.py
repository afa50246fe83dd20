"""The optimal mean field of a model with few joint states, by coordinate ascent on the table of its log joint."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jensen._families.native import AbstractFactor, AbstractFreeForm, Product
from jensen._model.native import NativeTarget

STATES = 2**16
"""Joint states up to which the log joint is tabulated."""
STARTS, WARM, SWEEPS = 48, 10, 2000


@dataclass(frozen=True)
class TableFit:
    """Factors of the best optimum, the bounds of the optima found (highest first), and what is left to gain."""

    marginals: list[np.ndarray]
    bounds: tuple[float, ...]
    gain: float
    sweeps: int


def joint_states(q: Product) -> int:
    """Number of joint states, 0 where a factor has no small support (or the number is beyond `STATES`)."""
    states = 1
    for factor in q.factors.values():
        support = factor.support()
        if support is None or not isinstance(factor, AbstractFreeForm):
            return 0
        states *= support.shape[0] ** min(int(np.prod(factor.rows, dtype=int)), 64)
        if states > STATES:
            return 0
    return states


def tabulate(target: NativeTarget, q: Product) -> np.ndarray:
    """log p(x, z) at every joint state, one axis for each row of each factor."""
    shape = tuple(_values(factor).size for factor in q.factors.values() for _ in np.ndindex(*factor.rows))
    index = np.stack(np.unravel_index(np.arange(int(np.prod(shape, dtype=int))), shape), axis=1)
    draws, column = {}, 0
    for name, factor in q.factors.items():
        count = int(np.prod(factor.rows, dtype=int))
        values = _values(factor)[index[:, column : column + count]]
        draws[name] = values.reshape(len(index), *factor.rows)
        column += count
    return target.log_joint(draws).reshape(shape)


def _values(factor: AbstractFactor) -> np.ndarray:
    return np.asarray(factor.support())


def ascend(table: np.ndarray, rng: np.random.Generator) -> TableFit:
    """Coordinate ascent from the middle and from random corners; every update is exact."""
    floor = np.nanmax(table[np.isfinite(table)]) - 1e4
    table = np.where(np.isfinite(table), np.maximum(table, floor), floor)
    starts = [[np.full(k, 1.0 / k) for k in table.shape]]
    starts += [[rng.dirichlet(np.full(k, 0.5)) for k in table.shape] for _ in range(STARTS - 1)]
    warmed = [_sweeps(table, start, WARM, 0.0) for start in starts]
    warmed.sort(key=lambda found: -found[1])
    finished: list[tuple[list[np.ndarray], float, float, int]] = []
    for marginals, bound, _, _ in warmed:
        known = any(_apart(marginals, other[0]) < 1e-3 for other in finished)
        if known or (finished and bound < finished[0][1] - 10.0 and len(finished) > 4):
            continue
        finished.append(_sweeps(table, marginals, SWEEPS, 1e-12))
    finished.sort(key=lambda found: -found[1])
    best = finished[0]
    return TableFit(best[0], tuple(found[1] for found in finished), best[2], best[3])


def _apart(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


def _sweeps(
    table: np.ndarray, marginals: list[np.ndarray], count: int, tolerance: float
) -> tuple[list[np.ndarray], float, float, int]:
    """(marginals, bound, last gain, sweeps)."""
    marginals, bound, gain, done = list(marginals), -np.inf, np.inf, 0
    while done < count:
        done += 1
        left = table  # rows before the present one are contracted away, those after it are kept ready
        rights = [np.zeros(())] * len(marginals)
        energy = 0.0
        for axis in range(len(marginals)):
            rights[axis] = _contract_tail(left, marginals[axis + 1 :])
            field = rights[axis] - rights[axis].max()
            marginals[axis] = np.exp(field) / np.exp(field).sum()
            energy = float(marginals[axis] @ rights[axis])
            left = np.tensordot(marginals[axis], left, axes=(0, 0))
        entropy = -sum(float(np.sum(p * np.log(np.maximum(p, 1e-300)))) for p in marginals)
        gain = energy + entropy - bound
        bound = energy + entropy
        if gain <= tolerance * max(1.0, abs(bound)):
            break
    return marginals, bound, gain, done


def _contract_tail(table: np.ndarray, tail: list[np.ndarray]) -> np.ndarray:
    """Expectation over all axes but the first."""
    for marginal in reversed(tail):
        table = table @ marginal
    return table


def as_product(q: Product, marginals: list[np.ndarray]) -> Product:
    """The factors with these marginals."""
    factors, start = {}, 0
    for name, factor in q.factors.items():
        count = int(np.prod(factor.rows, dtype=int))
        masses = np.stack(marginals[start : start + count]) if count else np.zeros((0, 1))
        log_masses = np.log(np.maximum(masses, 1e-300)).reshape(*factor.rows, -1)
        assert isinstance(factor, AbstractFreeForm)  # else there is no table
        factors[name] = factor.with_log_masses(jnp.asarray(log_masses))
        start += count
    return Product(factors)
