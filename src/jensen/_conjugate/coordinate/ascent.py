"""Compiled sweeps with their accounts: the gain of every update, and the exact bound they must add up to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import JensenError
from jensen._conjugate.algebra import ConjugateModel, Moments, Naturals
from jensen._conjugate.coordinate.refusals import cancelling, finite, improper, no_maximum
from jensen._conjugate.coordinate.starts import given_start, perturbed, random_start
from jensen._families.exponential import AbstractExponentialFactor, Natural
from jensen._families.exponential.contract import inner
from jensen._math.programs import Program

HEAVY, MIDDLING = 200_000, 20_000
"""Data values and parameters beyond which a sweep is worth optimising, and worth half of the time for that: a quick
program runs three to six times as long."""
MAX_ROUNDING = 1e-3
"""Nats of rounding in the bound that are let pass for one observed scalar; they grow as the root of the rows."""


@dataclass(frozen=True)
class State:
    """Where the ascent stands: the moments and natural parameters of every block and the bounds so far (nats).

    `history` holds the bound of each of the `sweeps` that led here; `extra` ones more were taken back, or were part of
    a jump, whose bounds were not yet above the one before it.
    `entropies` holds the entropy of every block where it is known, so that no sweep computes it again; `magnitude` is
    Σ |terms| of the expected log joint, in nats. From `base` plain sweeps alone led here, from `origin` a whole climb:
    the states between are not kept, but can be made again.
    """

    moments: Moments
    naturals: Naturals
    history: tuple[float, ...]
    sweeps: int
    entropies: dict[str, Any] | None = None
    magnitude: float | None = None
    extra: int = 0
    base: "State | None" = None
    origin: "State | None" = None

    @property
    def elbo(self) -> float:
        """The exact bound after the last sweep; -inf before the first."""
        return self.history[-1] if self.history else -np.inf

    @property
    def total(self) -> int:
        """All sweeps that were made."""
        return self.sweeps + self.extra

    def onward(self, after: "State", made: int) -> "State":
        """What follows after a jump and so many sweeps from there: those whose bound is higher than here."""
        bounds = tuple(bound for bound in after.history[-made:] if bound > self.elbo)
        sweeps = self.sweeps + len(bounds)
        base = after.base and replace(after.base, sweeps=sweeps - (after.sweeps - after.base.sweeps))
        extra = self.extra + made - len(bounds)
        return replace(
            after, history=(*self.history, *bounds), sweeps=sweeps, extra=extra, base=base, origin=self.origin
        )


class Ascent:
    """Sweeps over the blocks of a model.

    `first` are sites whose starting values were given: their blocks are updated last, so that the others see them.
    Discrete blocks come after the continuous ones, which then see the responsibilities of the start. Among learned
    parameters locations come first: a Gaussian's scale at its new mean is the joint M step of both.
    """

    order: tuple[str, ...]

    def __init__(self, model: ConjugateModel, first: tuple[str, ...] = ()):
        self.model = model
        given = {model.layout.owner[s] for s in first}
        rank = {
            name: (name in given, block.discrete, block.point and "z" not in block.shapes, -i)
            for i, (name, block) in enumerate(model.blocks.items())
        }
        self.order = tuple(sorted(model.blocks, key=lambda name: rank[name]))
        elements = sum(np.size(a) for a in model.energy.arrays)
        self.stride = 1 if elements > 1_000_000 else 10
        elements += sum(int(np.prod(s)) for b in model.blocks.values() for s in b.shapes.values())
        self.heavy: bool | str = elements > HEAVY or ("middle" if elements > MIDDLING else False)

    @property
    def _programs(self) -> "Sweeps":
        """The compiled programs, shared by all ascents of this order on models of this layout."""
        key = (self.order, self.stride, self.heavy)
        if key not in self.model.layout.programs:
            self.model.layout.programs[key] = Sweeps(self.model.with_arrays(()), *key)
        return self.model.layout.programs[key]

    def starts(self, rng: np.random.Generator, count: int, sweeps: int) -> list[State]:
        """`count` random starts after so many sweeps each, best first."""
        states = []
        for i in range(count):
            state = self.begin(random_start(self.model, rng, seeds=i % 2 == 0))
            states.append(self.advance(state, sweeps) if count > 1 else state)
        return sorted(states, key=lambda state: -state.elbo)

    def given(self, rng: np.random.Generator, init: Mapping[str, Any]) -> State:
        """The start at these values of some sites."""
        return self.begin(given_start(self.model, rng, init))

    def pushed(self, state: State, rng: np.random.Generator) -> State:
        """The state after a small random push and one sweep."""
        return self.begin(perturbed(self.model, state.moments, rng))

    def noise(self, elbo: float) -> float:
        """Rounding of a bound, in nats."""
        scale = 1e-11 if jnp.result_type(float) == jnp.float64 else 3e-5
        return scale * (abs(elbo) + self.model.rows)

    def begin(self, moments: Moments) -> State:
        """The state after one sweep from these moments (which need belong to no factor)."""
        naturals, entropies = zeros(self.model, self.model.blocks)
        moments, naturals, entropies, size, elbos, _, inside = self._run(moments, naturals, entropies, 1)
        self.check_inside(inside, naturals)
        return State(moments, naturals, (self.finite(float(elbos[0])),), 1, entropies, float(size))

    def advance(self, state: State, count: int) -> State:
        """`count` more sweeps, each checked."""
        base, end = replace(state, base=None), state.sweeps + count
        while state.sweeps < end:
            steps = min(self.stride, end - state.sweeps)
            entropies = self.entropies(state)
            moments, naturals, entropies, size, elbos, gains, inside = self._run(
                state.moments, state.naturals, entropies, steps
            )
            self.check_inside(inside, naturals)
            after = replace(
                state,
                moments=moments,
                naturals=naturals,
                history=(*state.history, *(self.finite(float(e)) for e in elbos)),
                sweeps=state.sweeps + steps,
                entropies=entropies,
                magnitude=float(size),
                base=base if count > 1 else None,
            )
            self._check_gains(state, after, gains)
            state = after
        return state

    def at_sweep(self, state: State, number: int) -> State | None:
        """The state after a sweep, by its number; `None` for one that is not among the last plain sweeps."""
        base = state if number == state.sweeps else state.base
        if base is None or not base.sweeps <= number <= state.sweeps:
            return None
        return self.advance(base, number - base.sweeps)

    def resumed(self, naturals: Naturals, state: State, count: int) -> State | None:
        """`count` sweeps, each checked, from the factors with these natural parameters; `None` outside their domain."""
        moments, entropies, elbo, inside = self._programs.at(self.model.energy.arrays, naturals)
        if not np.all(np.asarray(inside)) or not np.isfinite(float(elbo)):
            return None
        return self.advance(State(moments, naturals, (float(elbo),), state.sweeps, entropies), count)

    def check_rounding(self, state: State) -> float:
        """The rounding of the bound in nats; an error where the terms cancel so much that it is not negligible.

        (x - μ)² is expanded: far from the origin, x² and 2xμ are large and nearly equal.
        """
        rounding = 16.0 * self.rounding * self.magnitude(state)
        if rounding > MAX_ROUNDING * max(1.0, np.sqrt(self.model.rows)):
            where = f"{self.model.rows} observed scalars, a bound of {state.elbo:.6g}."
            raise cancelling(rounding, where, {name: state.moments[name] for name in self.order})
        return rounding

    @property
    def rounding(self) -> float:
        """Rounding of Σ |terms|, relative."""
        return float(jnp.finfo(jnp.result_type(float)).eps)

    def magnitude(self, state: State) -> float:
        """Σ |terms| of the expected log joint."""
        if state.magnitude is not None:
            return state.magnitude
        return float(self._programs.magnitude(self.model.energy.arrays, state.moments))

    def entropies(self, state: State) -> dict[str, Any]:
        """The entropy of every block, in nats."""
        return self._programs.entropies(state.naturals) if state.entropies is None else state.entropies

    def _run(self, moments: Moments, naturals: Naturals, entropies: Any, count: int) -> Any:
        *new, elbos, gains, inside = self._programs.sweeps(
            self.model.energy.arrays, moments, naturals, entropies, np.int32(count)
        )
        return *new, np.asarray(elbos)[:count], np.asarray(gains)[:count], np.asarray(inside)

    def check_inside(self, inside: Any, naturals: Naturals) -> None:
        """Raise where a block's optimal factor cannot be normalised."""
        for name, ok in zip(self.order, inside, strict=True):
            if not ok:
                site = self.model.sites[self.model.blocks[name].sites[0]]
                bad = np.argwhere(~np.asarray(self.model.factor(name, naturals[name]).contains()))
                place = f" First at position {tuple(int(i) for i in bad[0])}." if bad.size and bad.shape[1] else ""
                if self.model.blocks[name].point:
                    raise no_maximum(name, place, site.where)
                raise improper(name, place, site.where)

    def finite(self, elbo: float) -> float:
        """The bound, or an error where it is not finite."""
        return finite(elbo, self.order)

    def _check_gains(self, state: State, after: State, gains: np.ndarray) -> None:
        """Each sweep must raise the exact bound by exactly the sum of the gains of its updates, none negative."""
        elbos = after.history[-len(gains) - 1 :]
        noise = 100.0 * self.noise(max(map(abs, elbos)))
        for i, row in enumerate(gains):
            rise = elbos[i + 1] - elbos[i]
            if not accounted(rise, row, noise):
                if accounted(rise, row, noise + self.check_rounding(after)):
                    continue
                raise self._blame(state, rise, float(row.sum()))

    def _blame(self, state: State, rise: float, gains: float) -> JensenError:
        """Repeat a sweep with the exact bound after every update, and name the block whose gain is not what it says."""
        moments, naturals = dict(state.moments), dict(state.naturals)
        before, found = float(self.model.elbo(moments, naturals)), []
        for name in self.order:
            old = self.model.factor(name, naturals[name]).entropy()
            update = updated(self.model.factor(name, self.model.message(name, moments)), moments[name], old)
            moments, naturals = {**moments, name: update.mean}, {**naturals, name: update.natural}
            after, gain = float(self.model.elbo(moments, naturals)), float(update.gain)
            found.append((abs(after - before - gain), name, after - before, gain))
            before = after
        _, name, change, gain = max(found)
        return JensenError(
            f"A sweep changed the bound by {rise:.6g} nats where its updates account for {gains:.6g}.",
            f"Block '{name}' (sites {', '.join(self.model.blocks[name].sites)}): its update changed the exact bound by "
            f"{change:.6g} nats instead of {gain:.6g}.",
            "An exact update cannot do that; please report the model.",
        )


class Sweeps:
    """The compiled programs of an ascent, for any data: `bare` is the model without arrays."""

    def __init__(self, bare: ConjugateModel, order: tuple[str, ...], stride: int, heavy: bool | str):
        self.bare, self.order, self.stride = bare, order, stride
        self.sweeps, self.at = Program(self._sweeps, heavy), Program(self._at_program)
        self.entropies = Program(lambda naturals: {n: bare.factor(n, naturals[n]).entropy() for n in naturals})
        self.magnitude = Program(lambda arrays, moments: bare.with_arrays(arrays).summed(moments)[1])

    def _sweeps(self, arrays: Any, moments: Moments, naturals: Naturals, entropies: Any, count: Any) -> Any:
        """`count` sweeps, at most `stride`: (moments, naturals, entropies, Σ |terms|, bounds (stride,),
        gains (stride, blocks), blocks in domain).
        """
        model, room = self.bare.with_arrays(arrays), self.stride

        def sweep(i: Any, carry: Any) -> Any:
            moments, naturals, entropies, inside, _, elbos, gains = carry
            row, still = [], []
            for name in self.order:
                update = updated(model.factor(name, model.message(name, moments)), moments[name], entropies[name])
                moments, naturals = {**moments, name: update.mean}, {**naturals, name: update.natural}
                entropies = {**entropies, name: update.entropy}
                row.append(update.gain)
                still.append(update.inside)
            energy, size = model.summed(moments)
            elbos, gains = elbos.at[i].set(energy + sum(entropies.values())), gains.at[i].set(jnp.stack(row))
            return moments, naturals, entropies, inside & jnp.stack(still), size, elbos, gains

        start = (moments, naturals, entropies, jnp.ones(len(self.order), bool))
        start = (*start, jnp.zeros(()), jnp.zeros(room), jnp.zeros((room, len(self.order))))
        moments, naturals, entropies, inside, size, elbos, gains = jax.lax.fori_loop(0, count, sweep, start)
        return moments, naturals, entropies, size, elbos, gains, inside

    def _at_program(self, arrays: Any, naturals: Naturals) -> Any:
        """(moments, entropies, bound, whether inside the domain) of factors."""
        model = self.bare.with_arrays(arrays)
        moments, entropies, inside = factors_at(model, naturals)
        return moments, entropies, model.expected_log_joint(moments) + sum(entropies.values()), inside


def accounted(rise: float, gains: np.ndarray, noise: float) -> bool:
    """Whether no gain is negative and they add up to the rise of the bound, within rounding."""
    return gains.min() >= -noise and abs(rise - gains.sum()) <= noise + 1e-6 * np.abs(gains).sum()


class Update(NamedTuple):
    """A new factor: its parameters, its entropy, its gain KL(q_j ‖ q_j*) over the old one, whether it is proper."""

    natural: Natural
    mean: Natural
    entropy: Any
    gain: Any
    inside: Any


def updated(new: AbstractExponentialFactor, old_mean: Natural, old_entropy: Any) -> Update:
    """The update from a factor with these mean parameters and this entropy (nats) to the optimal one."""
    mean, sizes = new.solved()
    size = jnp.sum(sizes)
    entropy = size - inner(new.natural, mean)
    gain = size - inner(new.natural, old_mean) - old_entropy
    return Update(new.natural, mean, entropy, gain, jnp.all(new.contains()))


def factors_at(model: ConjugateModel, naturals: Naturals) -> tuple[Moments, dict[str, Any], Any]:
    """(moments, entropies, whether inside the domain, by block) at natural parameters."""
    moments, entropies, inside = {}, {}, []
    for name, natural in naturals.items():
        factor = model.factor(name, natural)
        moments[name], sizes = factor.solved()
        entropies[name] = jnp.sum(sizes) - inner(natural, moments[name])
        inside.append(jnp.all(factor.contains()))
    return moments, entropies, jnp.stack(inside)


def zeros(model: ConjugateModel, names: Iterable[str]) -> tuple[Naturals, dict[str, Any]]:
    """Naturals and entropies of zero, for a start that belongs to no factor."""
    kind = jnp.result_type(float)
    naturals = {n: {k: np.zeros(shape, kind) for k, shape in model.blocks[n].shapes.items()} for n in names}
    return naturals, {n: np.zeros((), kind) for n in naturals}  # type: ignore[return-value]
