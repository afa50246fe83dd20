"""Pools of importance draws for a product of factors, with as many latents as possible integrated out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jensen._conjugate.coordinate.collapse import Weighable
from jensen._conjugate.coordinate.hybrid_solution import HybridSolution
from jensen._conjugate.coordinate.solution import Solution
from jensen._conjugate.coordinate.weighing import Weigher, chosen_weigher
from jensen._math.precision import float_type
from jensen._verdict.importance import FEW, PILOT, Pool, hopeless, log_ratio, weigh
from jensen._verdict.labellings import View

Draws = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Collapsed:
    """The latents that keep their draws, and how the others leave.

    The second half of a pool comes from the factors to a power below one: see `weighing.tempered`. A pool is small
    where the first draws show that weights will be of no use: the verdict is clear then.
    """

    solution: Solution | HybridSolution
    weigher: Weigher

    @property
    def way(self) -> Weighable:
        """What keeps its draws, and how the rest leaves."""
        return self.weigher.way

    def pool(self, seed: int) -> Pool:
        """Draw and weigh."""
        weigher = self.weigher
        size = weigher.size
        own = weigher.draw(self.way.q, size // 2, 2 * seed)
        if size > FEW and own:
            log_joint, log_q, _ = weigher({name: value[:PILOT] for name, value in own.items()}, PILOT)
            if hopeless(log_ratio(log_joint, log_q)):
                size = FEW
                own = {name: value[: size // 2] for name, value in own.items()}
        wide = weigher.draw(weigher.wide, size // 2, 2 * seed + 1)
        values = {name: np.concatenate([own[name], wide[name]]) for name in own}
        log_joint, *log_q = self._weighed(values, size)
        columns = [np.asarray(values[site], float).reshape(size, -1) for site in self.way.weighed]
        points = np.concatenate([np.zeros((size, 1)), *columns], axis=1)
        return weigh(points, log_joint, *log_q)

    def _weighed(self, values: Draws, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        log_joint, log_q, log_wide = self.weigher(values, count)
        return log_joint, log_q, np.logaddexp(log_q, log_wide) - np.log(2.0)

    def _densities(self, values: Draws) -> tuple[np.ndarray, np.ndarray]:
        log_q, log_wide = self.weigher.densities(values, len(next(iter(values.values()))))
        return log_q, np.logaddexp(log_q, log_wide) - np.log(2.0)

    def view(self, points: np.ndarray) -> View:
        """The latents with weights, discrete ones by their values too."""
        infos, precision = self.solution.infos, self.solution.precision
        listed = {site: np.asarray(v) for site in self.way.weighed if (v := infos[site].values) is not None}
        return View(
            self._read(points),
            lambda values: self._weighed(values, len(next(iter(values.values()))))[0],
            self._densities,
            states=[len(v) for site in self.way.left_out if (v := infos[site].values) is not None],
            coded={site: len(v) for site, v in listed.items() if np.array_equal(v, np.arange(len(v)))},
            eps=float(np.finfo(float_type(precision)).eps),
            frugal=self.weigher.size < 1024,
        )

    def _read(self, points: np.ndarray) -> Draws:
        infos = self.solution.infos
        values, start = {}, 1
        for name in self.way.weighed:
            shape = infos[name].shape
            width = int(np.prod(shape, dtype=int))
            column = points[:, start : start + width].reshape(-1, *shape)
            values[name] = column.astype(np.int32) if infos[name].values is not None else column
            start += width
        return values

    def draws(self, points: np.ndarray, sites: list[str], seed: int) -> Draws:
        """The draws of these sites at points of a pool."""
        blocks, values = self.way.plan.model.blocks, self._read(points)
        wanted = tuple(n for n in self.way.plan.out if any(s in sites for s in blocks[n].sites))
        if wanted and self.way.plan.exact:
            values |= self.weigher.conditional(wanted, values, len(points), seed)
        return {name: value for name, value in values.items() if name in sites}


def collapsed(solution: Solution | HybridSolution) -> Collapsed:
    """The choice of what leaves whose weights are even."""
    return Collapsed(solution, chosen_weigher(solution))
