"""Sweeps that stream the rows of a plate: local factors are made, summed into statistics and dropped by chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._errors import JensenError
from jensen._typing import Array
from jensen.algorithms.coordinate.ascent import HEAVY, Ascent, State, accounted, factors_at, updated, zeros
from jensen.algorithms.coordinate.starts import check_values, given_start, perturbed, random_start
from jensen.families.exponential.contract import inner
from jensen.math.programs import Program
from jensen.models.conjugacy import ConjugateModel, Moments, Naturals
from jensen.models.conjugacy.energy import INLINE
from jensen.models.conjugacy.plates import Interface, PlateSplit, split
from jensen.models.conjugacy.rows import CACHE, Chunk, Rows

CHUNK = 1024
WIDEST = 2**20
"""Numbers in the local moments of a chunk."""
SUBSET = 4096
SUBSET_SWEEPS = 30
ROUNDS, SETTLED = 100, 1e-3
"""From a cold start: at most so many rounds over the local blocks, until their moments change by less than this."""
HEAVY_ROWS = 1_000_000
"""Numbers in a pass over the rows beyond which it is worth optimising."""


def ascent_for(model: ConjugateModel, init: Mapping[str, Any] | None = None) -> Ascent:
    """The streaming ascent where a large plate allows it, the plain one otherwise."""
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
    every update exact; from a cold start several rounds over the local blocks come first. Rows and globals are two
    programs: the first takes the run time, the second most of the compile time, and serves any number of rows.
    """

    def __init__(self, parts: PlateSplit):
        super().__init__(parts.model)
        self.parts, self.rows = parts, Rows(parts)
        self.order = tuple(name for name in self.order if name in parts.shared)
        self.stride = 1
        self.arrays = parts.arrays
        self.row_kind = self.rows.kind(self.arrays)
        entries = sum(int(np.prod(s)) for n in self.order for s in parts.model.blocks[n].shapes.values())
        heavy = {size: size * self.rows.size > HEAVY_ROWS for size in (parts.size, min(SUBSET, parts.size))}
        self._pass = {
            (size, rounds): Program(partial(self._rows_program, size, rounds), heavy[size])
            for size in heavy
            for rounds in (1, ROUNDS)
        }
        self._globals = Program(self._globals_program, entries > HEAVY)
        self._at = Program(partial(factors_at, parts.model))
        self._begin = Program(self._begin_program)
        self._from_values = Program(self._values_program)
        self._local = Program(self.conditionals)

    def cold(self, rows: int) -> Moments:
        """Moments of the carried blocks to begin with, the same in every row."""
        found: dict[str, Any] = {}
        for name in self.parts.carried:
            block = self.model.blocks[name]
            start = block.start(np.random.default_rng(0), (1, *self.model.sites[block.sites[0]].shape[1:]))
            found[name] = {k: np.repeat(np.asarray(v, self.row_kind), rows, 0) for k, v in start.items()}
        return found

    def starts(self, rng: np.random.Generator, count: int, sweeps: int) -> list[State]:
        """`count` starts, run on one random subset of the rows; the best then makes one sweep over all."""
        size = min(SUBSET, self.parts.size)
        subset = self.chosen(self.arrays, np.sort(rng.choice(self.parts.size, size, replace=False)))
        found: list[State] = []
        for i in range(count):
            start = random_start(self.model, rng, i % 2 == 0, dict.fromkeys(self.parts.local, size))
            carried = {name: start[name] for name in self.parts.carried}
            state = self._moved({n: start[n] for n in self.order}, (*self._begin(start, subset), carried), size)
            for _ in range(max(SUBSET_SWEEPS, sweeps)):
                state, (_, after), _, _ = self._swept(state, subset, size)
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
        passed = self._from_values(moments, self.cold(size), self.arrays, values)
        return self._advanced(self._moved(moments, passed, size))

    def _moved(self, moments: Moments, passed: Any, size: int) -> State:
        """The globals that follow from statistics; their bound is not known."""
        naturals, entropies = zeros(self.model, self.order)
        return self._updated(State(moments, naturals, (), 0, entropies), passed, size)[0]

    def pushed(self, state: State, rng: np.random.Generator) -> State:
        """The state after a small random push of the globals and one sweep."""
        shared = {name: state.moments[name] for name in self.order}
        carried = {name: state.moments[name] for name in self.parts.carried}
        return self.begin({**perturbed(self.model, shared, rng), **carried})

    def begin(self, moments: Moments) -> State:
        """The state after one sweep from these moments; carried blocks that are missing start cold."""
        kept = {name: moments[name] for name in (*self.order, *self.parts.carried) if name in moments}
        rounds = 1 if len(kept) == len(self.order) + len(self.parts.carried) else ROUNDS
        naturals, entropies = zeros(self.model, self.order)
        return self._advanced(State({**self.cold(self.parts.size), **kept}, naturals, (), 0, entropies), rounds)

    def advance(self, state: State, count: int) -> State:
        """`count` more sweeps, each checked."""
        for _ in range(count):
            state = self._advanced(state)
        return state

    def resumed(self, naturals: Naturals, state: State, count: int) -> State | None:
        """`count` sweeps, each checked, from the globals with these natural parameters; `None` outside their domain.

        What the local update gains in the first one is not known: only the gains of the globals are audited there.
        """
        moments, entropies, inside = self._at({name: naturals[name] for name in self.order})
        if not np.all(np.asarray(inside)):
            return None
        carried = {name: state.moments[name] for name in self.parts.carried}
        begun = State({**moments, **carried}, naturals, (), state.sweeps, entropies)
        return self.advance(self._advanced(begun, unknown=True), count - 1)

    def local_naturals(self, moments: Moments) -> Naturals:
        """Natural parameters of every row's factors, given the moments of the globals (and of carried blocks)."""
        shared = {name: moments[name] for name in self.order}
        carried = {**self.cold(self.parts.size), **{n: moments[n] for n in self.parts.carried if n in moments}}
        return self._local(shared, carried, self.arrays)

    @property
    def fixed(self) -> tuple[Array | None, ...]:
        """The arrays without those that hold one entry per row."""
        slots = self.parts.row_slots()
        return tuple(None if i in slots else a for i, a in enumerate(self.arrays))

    @property
    def _float(self) -> Any:
        return jnp.result_type(float)

    def _swept(self, state: State, arrays: Any, size: int, rounds: int = 1) -> Any:
        """(state, bounds before and after the globals, their gains, whether they are inside their domain)."""
        carried = {name: state.moments[name] for name in self.parts.carried}
        shared = {name: state.moments[name] for name in self.order}
        passed = self._pass[size, rounds if carried else 1](shared, carried, arrays)
        return self._updated(state, passed, size)

    def _updated(self, state: State, passed: Any, size: int) -> Any:
        statistics, entropy, carried = passed
        shared = {name: state.moments[name] for name in self.order}
        weight = np.asarray(self.parts.size / size, self._float)
        moments, naturals, entropies, bounds, magnitude, gains, inside = self._globals(
            shared, state.naturals, self.entropies(state), self.fixed, statistics, entropy, weight
        )
        new = State({**moments, **carried}, naturals, state.history, state.sweeps, entropies, magnitude)
        return new, bounds, gains, inside

    def _advanced(self, state: State, rounds: int = 1, unknown: bool = False) -> State:
        """One more sweep; `unknown`: the factors are in their domain, but not their bound so far."""
        new, bounds, gains, inside = self._swept(state, self.arrays, self.parts.size, rounds)
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
        """Rounding of Σ |terms|, relative; errors of single rows are independent, and summed in double precision."""
        eps = float(jnp.finfo(self.row_kind).eps)
        return eps if self.row_kind == self._float else eps / np.sqrt(self.parts.size)

    def noise(self, elbo: float) -> float:
        """Rounding of a bound, in nats."""
        scale = 1e-11 if self.row_kind == self._float else 1e-7
        return scale * (abs(elbo) + self.model.rows)

    def magnitude(self, state: State) -> float:
        """Σ |terms| of the expected log joint."""
        if state.magnitude is None:
            state = self._swept(state, self.arrays, self.parts.size)[0]
        return float(state.magnitude or 0.0)

    def chosen(self, arrays: Sequence[Any], rows: Any) -> tuple[Any, ...]:
        """The arrays with these rows only."""
        slots = self.parts.row_slots()
        if isinstance(rows, np.ndarray):  # on the host, where nothing is compiled
            return tuple(np.take(np.asarray(a), rows, axis=slots[i]) if i in slots else a for i, a in enumerate(arrays))
        return tuple(jnp.take(a, rows, axis=slots[i]) if i in slots else a for i, a in enumerate(arrays))

    def bound(self, moments: Moments, naturals: Naturals, arrays: Sequence[Array]) -> Any:
        """The bound with optimal local factors, in nats; the globals in `naturals` add their entropy."""
        size, interface = self.parts.size, self.parts.interface(moments, arrays)
        rounds = ROUNDS if self.parts.carried else 1
        statistics, entropy, _ = self._statistics(interface, arrays, size, self.cold(size), rounds)
        own = sum(self.model.factor(n, natural).entropy() for n, natural in naturals.items())
        return self._energy(moments, arrays, statistics, 1.0) + entropy + own

    def _energy(self, at: Moments, arrays: Any, statistics: Interface, weight: Any) -> Any:
        """The expected log joint as a function of the globals, given the statistics."""
        pairs = zip(statistics, self.parts.interface(at, arrays), strict=True)
        return weight * sum(_paired(s, g) for s, g in pairs) + self.parts.rest_energy(at, arrays)

    def _message(self, name: str, moments: Moments, arrays: Any, statistics: Interface, weight: Any) -> Any:
        def energy(own: Any) -> Any:
            return self._energy({**moments, name: own}, arrays, statistics, weight)

        return jax.grad(energy)(moments[name])

    def _statistics(
        self,
        interface: Interface,
        arrays: Sequence[Array],
        size: int,
        carried: Moments,
        rounds: int,
        values: dict[str, Array] | None = None,
    ) -> tuple[Interface, Any, Moments]:
        """(S, entropy of the local factors, carried moments) of `size` rows after at most `rounds` local rounds; with
        `values` some local blocks are concentrated there instead.
        """
        parameters, pull = jax.vjp(self.rows.parameters, interface)
        low, carried = jax.tree.map(lambda a: a.astype(self.row_kind), (parameters, carried))
        count = self._chunk_size(size)
        whole, left = divmod(size, count)
        masked = left > 0 and not self.rows.loose

        def add(state: Any, start: Any, count: int, first: Any = None) -> Any:
            total, carried = state
            chunk = Chunk(arrays, start, count)
            features = self.rows.all_features(chunk)
            own = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, count), carried)
            own = self._settled(low, features, chunk, own, rounds)
            local, sizes = self._solved(self.rows.factors(low, features, chunk, own), chunk, values)
            if first is not None:
                seen = start + np.arange(count) >= first
                features, sizes = ([jnp.where(seen, a, 0.0) for a in group] for group in (features, sizes))
            found = self.rows.statistics(local, features, low, chunk)
            found = (found, sum(jnp.sum(each.astype(self._float)) for each in sizes))
            total = jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, found)
            new = {name: local[name] for name in self.parts.carried}
            carried = jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, start, 0), carried, new)
            return total, carried

        state: Any = ((jax.tree.map(jnp.zeros_like, parameters), jnp.zeros(())), carried)
        if masked:  # the last chunk begins early enough to be whole; what was counted before is left out
            state = jax.lax.fori_loop(
                0, whole + 1, lambda i, s: add(s, jnp.minimum(i * count, size - count), count, i * count), state
            )
        else:
            state = jax.lax.fori_loop(0, whole, lambda i, s: add(s, i * count, count), state)
            state = add(state, whole * count, left) if left else state
        (found, sizes), carried = state
        statistics = pull(found)[0]
        return statistics, sizes if self.parts.carried else sizes - self._inside(statistics, interface), carried

    def _solved(
        self, factors: dict[str, Any], chunk: Chunk, values: dict[str, Array] | None
    ) -> tuple[Moments, list[Array]]:
        """(local moments, by block and row what the entropy of the plate is made of).

        The entropy of a factor is A(η) - ⟨η, E[t]⟩. Where no block is carried, the second parts of all rows together
        are ⟨S, G⟩ over the terms with local blocks, so that A(η) is enough.
        """
        if values:
            return self.rows.at(values, factors, chunk), [jnp.zeros(chunk.count)]
        solved = {name: factor.solved() for name, factor in factors.items()}
        local = {name: mean for name, (mean, _) in solved.items()}
        if self.parts.carried:
            return local, [jnp.sum(size) - inner(factors[name].natural, mean) for name, (mean, size) in solved.items()]
        return local, [self.rows.by_row(name, size) for name, (_, size) in solved.items()]

    def _inside(self, statistics: Interface, interface: Interface) -> Any:
        """⟨S, G⟩ over the groups with a local block."""
        pairs = zip(self.parts.groups, statistics, interface, strict=True)
        return sum((_paired(s, g) for group, s, g in pairs if group.local), 0.0)

    def _settled(self, parameters: Any, features: list[Array], chunk: Chunk, carried: Moments, rounds: int) -> Moments:
        """The carried moments after at most `rounds` - 1 rounds over the local blocks."""
        if rounds == 1 or not self.parts.carried:
            return carried

        def more(state: Any) -> Any:
            return (state[0] < rounds - 1) & (state[1] > SETTLED)

        def step(state: Any) -> Any:
            i, _, old = state
            factors = self.rows.factors(parameters, features, chunk, old)
            new = {name: factors[name].mean_params() for name in self.parts.carried}
            moved = jax.tree.map(lambda a, b: jnp.mean(jnp.abs(a - b)) / (1e-30 + jnp.mean(jnp.abs(a))), new, old)
            return i + 1, jnp.max(jnp.stack(jax.tree.leaves(moved))), new

        return jax.lax.while_loop(more, step, (0, jnp.asarray(jnp.inf, self.row_kind), carried))[2]

    def _chunk_size(self, size: int) -> int:
        if self.rows.packs and not self.parts.carried:
            return chunk_size(size, int(np.clip(CACHE // (self.row_kind.itemsize * self.rows.size), 64, 4096)))
        width = sum(self.parts.width(name) for name in self.parts.local)
        return chunk_size(size, max(8, min(CHUNK, WIDEST // max(1, width))))

    def _rows_program(self, size: int, rounds: int, moments: Moments, carried: Moments, arrays: Sequence[Array]) -> Any:
        return self._statistics(self.parts.interface(moments, arrays), arrays, size, carried, rounds)

    def _values_program(
        self, moments: Moments, carried: Moments, arrays: Sequence[Array], values: dict[str, Array]
    ) -> Any:
        interface = self.parts.interface(moments, arrays)
        return self._statistics(interface, arrays, self.parts.size, carried, 1, values)

    def _begin_program(self, start: Moments, arrays: Sequence[Array]) -> Any:
        """Statistics from given local moments, on a subset of the rows."""
        size = next(iter(start[self.parts.local[0]].values())).shape[0]
        parameters, pull = jax.vjp(self.rows.parameters, self.parts.interface(start, arrays))
        chunk = Chunk(arrays, 0, size)
        local = self.rows.turned(start, rows_first=False)
        found = self.rows.statistics(local, self.rows.all_features(chunk), parameters, chunk)
        found = jax.tree.map(lambda a, b: b.astype(a.dtype), parameters, found)
        return pull(found)[0], jnp.zeros(())

    def _globals_program(
        self,
        moments: Moments,
        naturals: Naturals,
        entropies: dict[str, Any],
        arrays: Any,
        statistics: Interface,
        entropy: Any,
        weight: Any,
    ) -> Any:
        def bound(moments: Moments, entropies: dict[str, Any]) -> Any:
            return self._energy(moments, arrays, statistics, weight) + weight * entropy + sum(entropies.values())

        before, gains, inside = bound(moments, entropies), [], []
        for name in self.order:
            factor = self.model.factor(name, self._message(name, moments, arrays, statistics, weight))
            update = updated(factor, moments[name], entropies[name])
            gains.append(update.gain)
            inside.append(update.inside)
            moments, naturals = {**moments, name: update.mean}, {**naturals, name: update.natural}
            entropies = {**entropies, name: update.entropy}
        bounds = (before, bound(moments, entropies))
        pairs = zip(statistics, self.parts.interface(moments, arrays), strict=True)
        magnitude = weight * sum(jnp.abs(_paired(s, g)) for s, g in pairs)
        magnitude = magnitude + jnp.abs(self.parts.rest_energy(moments, arrays))
        return moments, naturals, entropies, bounds, magnitude, jnp.stack(gains), jnp.stack(inside)

    def conditionals(self, moments: Moments, carried: Moments, arrays: Sequence[Array]) -> Naturals:
        """Natural parameters of every row's optimal factors given global moments; traceable."""
        interface, size = self.parts.interface(moments, arrays), self.parts.size
        if carried:
            carried = self._statistics(interface, arrays, size, carried, ROUNDS)[2]
        chunk = Chunk(arrays, 0, size)
        parameters = jax.tree.map(lambda a: a.astype(self.row_kind), self.rows.parameters(interface))
        factors = self.rows.factors(parameters, self.rows.all_features(chunk), chunk, carried)
        return self.rows.turned({name: factors[name].natural for name in self.parts.local}, rows_first=True)


def chunk_size(rows: int, target: int = CHUNK) -> int:
    """A divisor of `rows` near `target` where there is one, so that no shorter last chunk needs code of its own."""
    near = [n for n in range(max(1, target // 2), 2 * target + 1) if rows % n == 0]
    return min(near, key=lambda n: abs(n - target)) if near else min(target, rows)


def _paired(left: Array, right: Array) -> Any:
    """⟨S, G⟩, with 0 · ±inf = 0."""
    return jnp.sum(jnp.where(left == 0, 0.0, left * right))
