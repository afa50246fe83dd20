"""Sweeps that stream the rows of a plate: local factors are made, summed into statistics and dropped by chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jensen._base.errors import JensenError
from jensen._base.typing import Array
from jensen._conjugate.algebra import ConjugateModel, Moments, Naturals
from jensen._conjugate.algebra.energy import INLINE
from jensen._conjugate.algebra.plates import PlateSplit, split
from jensen._conjugate.coordinate.ascent import Ascent, State, accounted, zeros
from jensen._conjugate.coordinate.plated_sweeps import ROUNDS, sweeps_of
from jensen._conjugate.coordinate.starts import check_values, given_start, perturbed, random_start

SUBSET_SWEEPS = 30


def ascent_for(model: ConjugateModel, init: Mapping[str, Any] | None = None) -> Ascent:
    """The streaming ascent where a large plate allows it, the plain one otherwise."""
    check_values(model, init or {})
    plates = {p.name: p.size for site in model.sites.values() for p in site.plates}
    for plate, size in sorted(plates.items(), key=lambda item: -item[1]):
        if size <= INLINE:
            break
        parts = split(model, plate, model.layout.row_precision == "single")
        if parts is None or not parts.shared:
            continue
        return PlatedAscent(parts)
    return Ascent(model, tuple(init or ()))


class PlatedAscent(Ascent):
    """Coordinate ascent over a plate split. The state holds the global blocks, and the moments of carried local ones.

    A sweep updates the local factors from the globals and then the globals one by one from the statistics. The bound
    after it is exact: with the statistics S the plate's expected log joint is ⟨S, G(globals)⟩. Where local blocks
    depend on each other (the topics of a document and of its words) some are carried from sweep to sweep, which makes
    every update exact; from a cold start several rounds over the local blocks come first.
    """

    def __init__(self, parts: PlateSplit):
        super().__init__(parts.model)
        self.parts, self.arrays = parts, parts.arrays
        self.order = tuple(name for name in self.order if name in parts.shared)
        self.sweeps = sweeps_of(parts, self.order)
        self.stride = 1
        self.row_kind, self.cold = self.sweeps.row_kind, self.sweeps.cold

    def starts(self, rng: np.random.Generator, count: int, sweeps: int) -> list[State]:
        """`count` starts, run on one random subset of the rows; the best then makes one sweep over all."""
        size = self.sweeps.subset
        subset = self.chosen(self.arrays, np.sort(rng.choice(self.parts.size, size, replace=False)))
        found: list[State] = []
        for i in range(count):
            start = random_start(self.model, rng, i % 2 == 0, dict.fromkeys(self.parts.local, size))
            carried = {name: start[name] for name in self.parts.carried}
            state = self.moved({n: start[n] for n in self.order}, (*self.sweeps.begin(start, subset), carried), size)
            for _ in range(max(SUBSET_SWEEPS, sweeps)):
                state, (_, after), _, _ = self.swept(state, subset, size)
                state = replace(state, history=(*state.history[-1:], float(after)))
                if len(state.history) > 1 and not state.elbo > state.history[0] + 1e-6 * self.model.rows:
                    break
            found.append(replace(state, history=(state.elbo,)))
        found.sort(key=lambda state: -state.elbo)
        best = replace(found[0], moments={**found[0].moments, **self.cold(self.parts.size)}, history=())
        return [self._advanced(best, ROUNDS), *found[1:]]

    def given(self, rng: np.random.Generator, init: Mapping[str, Any]) -> State:
        """The start at these values of some sites; where local latents are among them, the globals follow from them."""
        local = {s: init[s] for s in init if self.model.layout.owner.get(s) in self.parts.local}
        rows = dict.fromkeys(self.parts.local, 1)
        moments = given_start(self.model, rng, {s: v for s, v in init.items() if s not in local}, rows)
        moments = {name: moments[name] for name in self.order}
        if not local:
            return self.begin(moments)
        check_values(self.model, local)
        values = {site: np.asarray(value) for site, value in local.items()}
        size = self.parts.size
        passed = self.sweeps.from_values(moments, self.cold(size), self.arrays, values)
        return self._advanced(self.moved(moments, passed, size))

    def moved(self, moments: Moments, passed: Any, size: int) -> State:
        """The globals that follow from statistics; their bound is not known."""
        naturals, entropies = zeros(self.model, self.order)
        return self._updated(State(moments, naturals, (), 0, entropies), passed, size)[0]

    def pushed(self, state: State, rng: np.random.Generator) -> State:
        """The state after a small random push of the globals and one sweep."""
        shared = {name: state.moments[name] for name in self.order}
        carried = {name: state.moments[name] for name in self.parts.carried}
        drawn = self.sweeps.push(shared, {name: state.naturals[name] for name in self.order}, rng.integers(2**31))
        return self.begin({**perturbed(self.model, shared, rng), **drawn, **carried})

    def begin(self, moments: Moments) -> State:
        """The state after one sweep from these moments; carried blocks that are missing start cold."""
        kept = {name: moments[name] for name in (*self.order, *self.parts.carried) if name in moments}
        rounds = 1 if len(kept) == len(self.order) + len(self.parts.carried) else ROUNDS
        naturals, entropies = zeros(self.model, self.order)
        return self._advanced(State({**self.cold(self.parts.size), **kept}, naturals, (), 0, entropies), rounds)

    def advance(self, state: State, count: int) -> State:
        """`count` more sweeps, each checked."""
        base = replace(state, base=None) if count > 1 else None
        for _ in range(count):
            state = self._advanced(state)
        return replace(state, base=base)

    def resumed(self, naturals: Naturals, state: State, count: int) -> State | None:
        """`count` sweeps, each checked, from the globals with these natural parameters; `None` outside their domain.

        What the local update gains in the first one is not known: only the gains of the globals are audited there.
        """
        moments, entropies, inside = self.sweeps.at({name: naturals[name] for name in self.order})
        if not np.all(np.asarray(inside)):
            return None
        carried = {name: state.moments[name] for name in self.parts.carried}
        begun = State({**moments, **carried}, naturals, (), state.sweeps, entropies)
        return self.advance(self._advanced(begun, unknown=True), count - 1)

    def local_naturals(self, moments: Moments) -> Naturals:
        """Natural parameters of every row's factors, given the moments of the globals (and of carried blocks)."""
        shared = {name: moments[name] for name in self.order}
        carried = {**self.cold(self.parts.size), **{n: moments[n] for n in self.parts.carried if n in moments}}
        return self.sweeps.local(shared, carried, self.arrays)

    @property
    def fixed(self) -> tuple[Array | None, ...]:
        """The arrays without those that hold one entry per row."""
        slots = self.parts.row_slots()
        return tuple(None if i in slots else a for i, a in enumerate(self.arrays))

    @property
    def _float(self) -> Any:
        return jnp.result_type(float)

    def swept(self, state: State, arrays: Any, size: int, rounds: int = 1) -> Any:
        """(state, bounds before and after the globals, their gains, whether they are inside their domain)."""
        carried = {name: state.moments[name] for name in self.parts.carried}
        shared = {name: state.moments[name] for name in self.order}
        passed = self.sweeps.rows_pass[size, rounds if carried else 1](shared, carried, arrays)
        return self._updated(state, passed, size)

    def _updated(self, state: State, passed: Any, size: int) -> Any:
        statistics, entropy, carried = passed
        shared = {name: state.moments[name] for name in self.order}
        weight = np.asarray(self.parts.size / size, self._float)
        moments, naturals, entropies, bounds, magnitude, gains, inside = self.sweeps.globals(
            shared, state.naturals, self.entropies(state), self.fixed, statistics, entropy, weight
        )
        found = {"moments": {**moments, **carried}, "naturals": naturals, "entropies": entropies}
        return replace(state, **found, magnitude=magnitude, base=None), bounds, gains, inside

    def _advanced(self, state: State, rounds: int = 1, unknown: bool = False) -> State:
        """One more sweep; `unknown`: the factors are in their domain, but not their bound so far."""
        new, bounds, gains, inside = self.swept(state, self.arrays, self.parts.size, rounds)
        self.check_inside(np.asarray(inside), new.naturals)
        new = replace(new, history=(*state.history, self.finite(float(bounds[1]))), sweeps=state.sweeps + 1)
        if state.history or unknown:
            middle = self.finite(float(bounds[0]))
            self._check_stream(new, state.elbo if state.history else middle, middle, np.asarray(gains))
        return new

    def _check_stream(self, state: State, before: float, middle: float, gains: np.ndarray) -> None:
        """The local update must not lower the bound; the global gains must add up to the rest of the rise."""
        after, row = state.elbo, np.array([middle - before, *gains])
        noise = 100.0 * self.noise(max(abs(before), abs(after)))
        if not accounted(after - before, row, noise) and not accounted(
            after - before, row, noise + self.check_rounding(state)
        ):
            names = (", ".join(self.parts.local), *self.order)
            raise JensenError(
                f"A sweep changed the bound by {after - before:.6g} nats; its updates account for {row.sum():.6g}.",
                "Gains: " + ", ".join(f"'{n}' {g:.6g}" for n, g in zip(names, row, strict=True)) + ".",
                "An exact update cannot do that; please report the model.",
            )

    @property
    def rounding(self) -> float:
        """Rounding of Σ |terms|, relative; errors of single rows are independent, and summed in double precision.

        What rows share, in single precision, is off to one side for all of them: a few parts in 10⁷ of the bound, of
        which its changes from sweep to sweep have next to nothing.
        """
        eps = float(jnp.finfo(self.row_kind).eps)
        return eps if self.row_kind == self._float else eps / np.sqrt(self.parts.size)

    def noise(self, elbo: float) -> float:
        """Rounding of a bound, in nats."""
        scale = 1e-11 if self.row_kind == self._float else 1e-7
        return scale * (abs(elbo) + self.model.rows)

    def magnitude(self, state: State) -> float:
        """Σ |terms| of the expected log joint."""
        if state.magnitude is None:
            state = self.swept(state, self.arrays, self.parts.size)[0]
        return float(state.magnitude or 0.0)

    def chosen(self, arrays: Sequence[Any], rows: Any) -> tuple[Any, ...]:
        """The arrays with these rows only."""
        slots = self.parts.row_slots()
        if isinstance(rows, np.ndarray):  # on the host, where nothing is compiled
            return tuple(np.take(np.asarray(a), rows, axis=slots[i]) if i in slots else a for i, a in enumerate(arrays))
        return tuple(jnp.take(a, rows, axis=slots[i]) if i in slots else a for i, a in enumerate(arrays))
