"""The density of θ with a field integrated out, as the host sees it, and what speaks against its integrals."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jensen._math.programs import Program
from jensen._model import Target
from jensen._model.one_rotation import saved_turns
from jensen._nested.field import FieldModel
from jensen._nested.target import NestedTarget, Values, drawn, evaluated, value_alone

EACH, HEAVY = 8, 1e6
"""Newton steps of one evaluation; data values from which on few starts and draws have to do."""
ENTRY, MULTIPLIED = 6, 20
"""Numbers that a program computes, and multiplications of a factorisation, that take as long as one data value."""
LONG = 8e6
"""Data values of one evaluation from which on programs are worth being compiled well."""
AT_ONCE = 16
"""Points of one call at most: draws are padded to them."""
STREAMS, FEWEST = 4, 4
"""Sets of draws by which their error is told, each at so much less of the θ; these at least."""
MORE, SPARE = (1.5, 16.0), 1.5
"""Times as many draws where they are too few, at least and at most; by how much smaller than asked their error is."""
FAR, AWAY, STEEPER = 3.0, 6, 2.0
"""How many sd from the field's mode another is sought, at most; distances that are looked at; by how much more than a
Gaussian's the log density may fall there."""
LOOKS, EXACT = {False: (8, 3), True: (4, 2)}, (2, 0)
"""Values of θ at which the conditional is looked at, and searches for other modes; fewer where they are dear, and where
it counts as Gaussian, which has one mode."""
PLACES = {False: (48, 8), True: (64, 32)}
"""Values of θ, and draws of the field at each, that a table is made of where these are dear; without moves and with."""
MOSTLY = 0.5
"""Share of searches that may meet curvature of the wrong sign where they end at one mode all the same."""
GENERIC = 0.5
"""Their spread over R^d."""
ACCEPTED, APART = 0.7, 1e-3
"""Share of moves from which on draws of the field settle; nats between two modes that are one."""


class FieldTarget(NestedTarget):
    """A target whose field's mode is followed from one θ to the next."""

    model: FieldModel  # type: ignore[assignment]
    allowed: float = 0.1  # of a mean, no more than a tenth of its sd
    how: str = "by a Gaussian at its mode and draws of what that misses"

    def weigh(self, rows: int) -> "FieldTarget":
        """Say what an evaluation costs for a program of so many data values."""
        order, draws = self.model.order, self.model.noise.shape[1]
        each, draws = (1, 0) if order.quadratic else (EACH, draws)
        evaluations = (each * (order.curvature.cost + 3) + 4 * draws) * order.work // ENTRY
        algebra = int((each + 2) * order.elimination.work + draws * order.blocks * order.width**2) // MULTIPLIED
        self._weighed(rows, 1 + (evaluations + algebra) // max(rows, 1))
        self.heavy, self.wide = self.elements >= HEAVY, min(self.wide, AT_ONCE)
        self.looks, self.starts = EXACT if order.quadratic else LOOKS[self.heavy]
        heavy = "middle" if self.elements > LONG else False
        named = {"gradients": evaluated, "values": value_alone, "draws": drawn}
        self._programs = {name: Program(fn, heavy=heavy) for name, fn in named.items()}  # of every copy too
        return self

    def dearer(self, names: Iterable[str]) -> float:
        """How many times as much work a factorisation is as if only these sites were the field."""
        own = [np.arange(where.start, where.stop) for site, where in self.model.chart.structure.slices()]
        others = [place for name, place in zip(self.model.sites, own, strict=True) if name not in set(names)]
        order = self.model.order
        return order.elimination.work / order.without(np.concatenate(others)) if others else 1.0

    def at_most(self, names: Iterable[str]) -> float:
        """How many times as much work an evaluation is at most as if only these sites were the field."""
        order, draws = self.model.order, self.model.noise.shape[1]
        told = (EACH * (order.curvature.cost + 3) + 4 * draws) / (EACH * (1 + 3) + 4 * draws)
        return max(told, self.dearer(names))

    @property
    def program_of_gradients(self) -> Any:
        """(model, points, how many of them) -> `Evaluated`."""
        return self._programs["gradients"]

    def _traced(self, points: np.ndarray) -> Any:
        return self.program_of_gradients.traced(self.model, points, 1)

    @property
    def program_of_values(self) -> Any:
        """(model, points, how many of them) -> values."""
        return self._programs["values"]

    @property
    def program_of_draws(self) -> Any:
        """(model, points, key data, how many points) -> draws."""
        return self._programs["draws"]

    @property
    def model_of_draws(self) -> FieldModel:
        """Without the draws that tell integrals, however many: one program serves all."""
        return dataclasses.replace(self.model, noise=np.asarray(self.model.noise)[:, :0])

    @property
    def shareable(self) -> bool:
        """A field has no groups."""
        return False

    def finer(self, times: float = 2.0) -> "FieldTarget":
        """The same density with as many more draws as make its error so many times smaller, and some to spare."""
        more = float(np.clip((SPARE * times) ** 2, *MORE))
        return self._with(noise=noise(self.model.noise, more, 0)).weigh(self.rows)

    def error(self, points: np.ndarray, known: Values | None = None) -> float:
        """Standard deviation over some of these θ of the log density that is owed to which draws there are, in nats.

        What draws make of it changes with θ along one direction or two: other draws say more than other θ.
        """
        if self.model.order.quadratic:
            return 0.0
        points, here = points[: max(len(points) // STREAMS, FEWEST)], self.settled()
        streams = [here._with(noise=noise(self.model.noise, 1, 1 + k)) for k in range(STREAMS - 1)]
        values = np.stack([(known or here.value)(points), *(one.value(points) for one in streams)])
        values -= values.mean(axis=1, keepdims=True)
        return float(np.sqrt(values.var(axis=0, ddof=1).mean()))

    def places(self, count: int) -> tuple[int, int]:
        """Fewer θ where a search for the mode is dear, with several draws of the field at each."""
        return PLACES[self.model.order.quadratic] if self.heavy else super().places(count)

    def doubts(self, points: np.ndarray) -> str:
        """What keeps the conditional from being nearly Gaussian, or draws of the field from settling, in a sentence."""
        return self.shape(points, self.starts, ACCEPTED, way=False)

    def shape(self, points: np.ndarray, starts: int = 1, accepted: float = 0.0, way: bool = True) -> str:
        """Whether the conditional has a mode, and one only, and is concave around it: what is amiss, in a sentence.

        Other modes are sought from so many places far from the mode, at all θ, or at one each where searches are dear.
        Of the moves of draws of the field a share is to be accepted. On the `way` to every mode it is to be concave
        before anything is fitted; afterwards, where searches from other places and moves say more, on that to most.
        """
        names = ", ".join(repr(name) for name in self.model.sites)
        points, starts = np.asarray(points[: self.looks], float), min(starts, self.starts)
        concave = not_concave(self.model.sites)
        near = self.settled()
        near.best = -np.inf  # where its searches begin may be far from all modes; these are near each other
        damping = near.evaluated(points[:1])[2]
        near = near.settled()
        each = self.places(1)[1]  # draws as a table asks for them
        found = near.drawn(np.repeat(points, each, axis=0), 71)[1]
        share = float(found.accepted.mean())
        found = jax.tree.map(lambda leaf: leaf[::each], found)
        damped = found.damping > 0.0
        if damped.mean() > MOSTLY or (way and (damping > 0.0 or damped.any())):
            return concave
        values = near.value(points)
        sound = np.isfinite(values)
        if sound.mean() < 0.5:
            return f"Given the other latents, {names} has no mode that Newton's method finds."
        points, values, found = points[sound], values[sound], jax.tree.map(lambda leaf: leaf[sound], found)
        for start in range(starts):
            far = self._far(points[start], found.mode[start], found.field[start])
            some = slice(start, start + 1) if self.heavy else slice(None)
            others, _, damping = self.settled(far).evaluated(points[some])
            if way and damping > 0.0:
                return concave
            apart = float(np.abs(others - values[some]).max())
            if not apart < APART:
                return f"Given the other latents, {names} has several modes, {apart:.2g} nats apart."
        return "" if share > accepted else f"Of the moves of draws of {names} only {share:.0%} are accepted."

    def _far(self, point: np.ndarray, mode: np.ndarray, field: np.ndarray) -> np.ndarray:
        """A place far from the mode, in the direction of a draw: where the log density falls as it does to the draw.

        Where it falls far more steeply, as an exponential does, there is no other mode, and no way back.
        """
        base = self.model.base
        whole = Target(base, base.bijection.structure, self.precision).for_values()
        whole.costs(rows=self.rows)
        away = np.r_[0.0, np.geomspace(1.0, FAR, AWAY)]
        places = mode + away[:, None] * (np.nan_to_num(field) - mode)
        joined = np.zeros((len(away), whole.dim))
        joined[:, self.model.where] = np.concatenate([places, np.tile(point, (len(away), 1))], axis=1)
        values = whole.value(joined)
        drop = np.minimum(values[0] - values, np.finfo(float).max)
        falls = np.isfinite(values) & (drop <= STEEPER * away**2 * np.abs(drop[1]))
        return places[np.flatnonzero(falls)[-1] if falls.any() else 0].astype(self.model.start.dtype)

    def chart(self) -> dict[str, np.ndarray]:
        """What a file keeps to find the same density again from the program."""
        return {
            "draws": np.asarray(self.model.noise.shape[1]),
            "start": np.asarray(self.model.start),
            "sites": np.asarray("\n".join(self.model.sites)),
            **saved_turns(self),
        }


def generic(seed: int, count: int, dim: int) -> np.ndarray:
    """Values (count, dim) of other latents at which a field is looked at first."""
    return np.random.default_rng([seed, 61]).normal(0.0, GENERIC, (count, dim))


def not_concave(sites: Iterable[str]) -> str:
    """What speaks against a field, in a sentence."""
    names = ", ".join(repr(name) for name in sites)
    return f"Given the other latents, the log density of {names} is not concave."


def noise(like: Any, times: float, stream: int) -> np.ndarray:
    """Standard normal draws (D, times n) for an array (D, n)."""
    size, count = like.shape
    return np.random.default_rng([stream, 83]).normal(size=(size, int(np.ceil(times * count)))).astype(like.dtype)
