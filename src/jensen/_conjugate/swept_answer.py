"""Factors of coordinate ascent beside draws that Gibbs sweeps have moved to the posterior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from jensen._conjugate.answer import ConjugateAnswer
from jensen._conjugate.coordinate.gibbs import Swept
from jensen._conjugate.coordinate.solution import restored
from jensen._core import AbstractCheck, Outcome
from jensen._math.mixing import mixing
from jensen._verdict.bridge import bridge
from jensen._verdict.checks import Weights
from jensen._verdict.checks.sweeps import Sweeps
from jensen._verdict.evidence import Evidence
from jensen._verdict.importance import Pool, log_ratio
from jensen._verdict.moments import flatten

POINTS = "swept/points"
LIMIT = 1.96
"""Standard errors to a one-sided limit at 97.5 %."""


class SweptAnswer(ConjugateAnswer):
    """q is the product of factors, with its bound; corrected draws are those of the chains."""

    kind: ClassVar[str] = "swept factors"
    approximates: ClassVar[Any] = Swept

    def __init__(self, target: Any, outcome: Outcome, seed: int):
        super().__init__(target, replace(outcome, q=outcome.q.factors), seed)
        self.points = np.asarray(outcome.q.points, float)
        self.advice = {
            "usable": "Work with fit.sample(), which draws from the chains; the bound and the factors are those of q.",
            "untrusted": "Fit again from other seeds and compare: chains that begin in one optimum may miss others.",
        }

    @cached_property
    def mixed(self) -> tuple[np.ndarray, np.ndarray]:
        """(r̂, effective draws) of every column of the chains."""
        return mixing(self.points)

    def columns_named(self) -> list[str]:
        """A label for every column of the chains."""
        return flatten(self._collapsed._read(self._points(self.points[0, :1])))[1]

    def _points(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros((len(rows), 1)), rows], axis=1)  # as in the pools of the factors

    def pool(self, seed: int) -> Pool:
        """Half of it from q, without weight; of the chains as many draws as they are worth, all of the same weight."""
        own, flat = super().pool(seed), self.points.reshape(-1, self.points.shape[-1])
        half = min(int(self.mixed[1].min()), len(flat), own.half)
        rows = np.random.default_rng([seed, 71]).permutation(len(flat))[:half]
        points = np.concatenate([own.points[:half], self._points(flat[rows])])
        log_joint, log_q, log_proposal = self._collapsed._weighed(self._collapsed._read(points), 2 * half)
        weights = np.repeat([0.0, 1.0 / half], half)
        return replace(
            own, points=points, log_joint=log_joint, log_q=log_q, log_proposal=log_proposal, weights=weights, khat=-1.0
        )

    def settled_pool(self, seed: int) -> Pool:
        """The chains are as long as they are."""
        return self.pool(seed)

    def evidence(self, pool: Pool) -> Evidence:
        """The bounds are those of q; the estimate is the bridge between q and the chains, where these overlap."""
        found, counted = super().evidence(super().pool(self.seed + 1)), self.labellings(pool)
        ratios = log_ratio(counted.pool.log_joint, counted.pool.log_q)
        value, error = bridge(ratios[: pool.half], ratios[pool.half :])
        high = value + LIMIT * error if np.isfinite(value) else np.inf
        return replace(
            found,
            log_evidence=value,
            log_evidence_se=error,
            khat=-1.0 if np.isfinite(value) else np.inf,
            interval=(found.interval[0], max(high, found.interval[0])),
            log_labellings=counted.log_count,
            log_covered=counted.log_covered,
        )

    def checks(self) -> tuple[AbstractCheck, ...]:
        """As of factors, with the chains in place of the corrected weights."""
        return (*(check for check in super().checks() if not isinstance(check, Weights)), Sweeps())

    def parameters(self) -> dict[str, np.ndarray]:
        """The natural parameters, and the draws."""
        return {**super().parameters(), POINTS: self.points}

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Swept | None:
        """The factors need their model."""
        if target is None:
            return None
        own = {name: value for name, value in parameters.items() if name != POINTS}
        return Swept(restored(target, own), np.asarray(parameters[POINTS], float))
