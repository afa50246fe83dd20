"""Draws of Markov chains: what `Fit.refine` leaves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from jensen._core import AbstractCheck, Outcome
from jensen._families import AbstractGaussian, Chains
from jensen._gaussian.answer import GaussianAnswer
from jensen._math.mixing import mixing
from jensen._verdict.answer import Draws
from jensen._verdict.checks import Hanging, Labellings, Modes
from jensen._verdict.checks.mixing import Mixing
from jensen._verdict.evidence import Evidence, evidence
from jensen._verdict.importance import Pool, pool_size
from jensen._verdict.labellings import View, counted
from jensen._verdict.packing import packed, unpacked


class ChainsAnswer(GaussianAnswer):
    """Draws over u ∈ R^D; the Gaussian of their moments stands in where a density is asked for, as for the bound."""

    kind: ClassVar[str] = "chains"
    approximates: ClassVar[Any] = Chains
    ADVICE: ClassVar[Mapping[str, str]] = {
        "usable": "Draw on: refine(num_draws=...), with twice as many.",
        "untrusted": "Draw on: refine(num_draws=...), with twice as many, or write the model in other coordinates.",
    }

    def __init__(self, target: Any, outcome: Outcome, seed: int):
        super().__init__(target, outcome, seed)
        self.grows, self.advice = False, self.ADVICE

    @cached_property
    def q(self) -> AbstractGaussian:
        """The Gaussian of the draws' moments."""
        return self.outcome.q.gaussian

    def pool(self, seed: int) -> Pool:
        """Draws of the same weight; half of them as many as the chains are worth, for Monte Carlo errors."""
        points = self.outcome.q.flat
        worth = max(int(mixing(np.asarray(self.outcome.q.points))[1].min()), 100)
        half = min(worth, len(points) // 2, pool_size(self.target) // 2)
        points = points[np.random.default_rng([seed, 71]).permutation(len(points))[: 2 * half]]
        log_joint = self.target.value(points)
        weights = np.full(len(points), 1.0 / len(points))
        return Pool(points, log_joint, log_joint, log_joint, weights, -1.0, -1.0, 0.0, True, True)

    def settled_pool(self, seed: int) -> Pool:
        """The same: tails are as long as the chains have them."""
        return self.pool(seed)

    def onward(self, pool: Pool) -> str:
        """It has gone on already."""
        del pool
        return ""

    def evidence(self, pool: Pool) -> Evidence:
        """From importance draws of the Gaussian, with all labellings."""
        pool = super().pool(self.seed + 1)
        view = super().view(pool)
        return evidence(pool, counted=counted(pool, view) if view else None)

    def view(self, pool: Pool) -> View | None:
        """Chains are taken as they are."""
        del pool

    def sample(self, count: int, seed: int) -> Draws:
        """Draws of the chains, each at most once where there are enough."""
        points = self.outcome.q.flat
        rows = np.random.default_rng([seed, self.seed]).choice(len(points), count, replace=count > len(points))
        return self.target.complete(points[rows], seed)

    def checks(self) -> tuple[AbstractCheck, ...]:
        """How the chains mix; where a fit took to them by itself, all else that speaks against such draws."""
        unasked = self.outcome.certificate.share_elsewhere is not None
        return (Labellings(), Modes(), Mixing(), Hanging()) if unasked else (Mixing(),)

    def parameters(self) -> dict[str, np.ndarray]:
        """All draws."""
        return packed(self.outcome.q, "chains") | self._chart()

    @staticmethod
    def restored(parameters: Mapping[str, np.ndarray], target: Any | None) -> Any:
        """The draws; they need no model."""
        del target
        return unpacked(parameters, "chains", {"Chains": Chains})
