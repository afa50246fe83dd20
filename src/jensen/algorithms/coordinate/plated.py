"""Sweeps that stream the rows of a plate: local factors are made, summed into statistics and dropped by chunks."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._errors import JensenError
from jensen._typing import Array
from jensen.algorithms.coordinate.ascent import HEAVY, Ascent, State, accounted, updated, zeros
from jensen.algorithms.coordinate.starts import check_values, given_start, perturbed, random_start
from jensen.families.exponential import Product
from jensen.math.programs import Program
from jensen.models.conjugacy import ConjugateModel, Moments, Naturals
from jensen.models.conjugacy.energy import INLINE
from jensen.models.conjugacy.plates import Interface, PlateSplit, split
from jensen.models.conjugacy.rows import CACHE, Chunk, Rows

CHUNK = 1024
SUBSET = 4096
SUBSET_SWEEPS = 30
HEAVY_ROWS = 1_000_000
"""Numbers in a pass over the rows beyond which it is worth optimising."""


def ascent_for(model: ConjugateModel, init: Mapping[str, Any] | None = None) -> Ascent:
    """The streaming ascent where a large plate allows it, the plain one otherwise."""
    plates = {p.name: p.size for site in model.sites.values() for p in site.plates}
    for plate, size in sorted(plates.items(), key=lambda item: -item[1]):
        if size <= INLINE:
            break
        parts = split(model, plate)
        if parts is None or not parts.shared:
            continue
        return PlatedAscent(parts)
    return Ascent(model, tuple(init or ()))


class PlatedAscent(Ascent):
    """Coordinate ascent over a plate split. The state holds the global blocks only.

    A sweep makes the local factors from the globals and then updates the globals one by one from the statistics. The
    bound after it is exact: with the statistics S the plate's expected log joint is ⟨S, G(globals)⟩. Rows and globals
    are two programs: the first is run time, the second only compile time, and serves any number of rows.
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
        self._pass = {size: Program(partial(self._rows_program, size), heavy[size]) for size in heavy}
        self._globals = Program(self._globals_program, entries > HEAVY)
        self._begin = Program(self._begin_program)
        self._from_values = Program(self._values_program)
        self._local = Program(self._local_naturals)

    def starts(self, rng: np.random.Generator, count: int, sweeps: int) -> list[State]:
        """`count` starts, run on one random subset of the rows; the best then makes one sweep over all."""
        size = min(SUBSET, self.parts.size)
        subset = self.chosen(self.arrays, np.sort(rng.choice(self.parts.size, size, replace=False)))
        found = []
        for i in range(count):
            start = random_start(self.model, rng, i % 2 == 0, dict.fromkeys(self.parts.local, size))
            state = self._moved({n: start[n] for n in self.order}, self._begin(start, subset), size)
            elbo = -np.inf
            for _ in range(max(SUBSET_SWEEPS, sweeps)):
                moments, naturals, entropies, (_, after), _, _ = self._swept(*state, subset, size)
                state = moments, naturals, entropies
                if not float(after) > elbo + 1e-6 * self.model.rows:
                    break
                elbo = float(after)
            found.append((elbo, *state))
        found.sort(key=lambda item: -item[0])
        best = self._advanced(State(*found[0][1:3], (), 0, found[0][3]))
        return [best, *(State(m, n, (e,), 0, h) for e, m, n, h in found[1:])]

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
        state = self._moved(moments, self._from_values(moments, self.arrays, values), self.parts.size)
        return self._advanced(State(*state[:2], (), 0, state[2]))

    def _moved(self, moments: Moments, passed: Any, size: int) -> tuple[Moments, Naturals, dict[str, Any]]:
        """The globals that follow from statistics."""
        naturals, entropies = zeros(self.model, self.order)
        weight = np.asarray(self.parts.size / size, self._float)
        return self._globals(moments, naturals, entropies, self.fixed, *passed, weight)[:3]

    def pushed(self, state: State, rng: np.random.Generator) -> State:
        """The state after a small random push of the globals and one sweep."""
        return self.begin(perturbed(self.model, state.moments, rng))

    def begin(self, moments: Moments) -> State:
        """The state after one sweep from these global moments."""
        naturals, entropies = zeros(self.model, self.order)
        return self._advanced(State({name: moments[name] for name in self.order}, naturals, (), 0, entropies))

    def advance(self, state: State, count: int) -> State:
        """`count` more sweeps, each checked."""
        for _ in range(count):
            state = self._advanced(state)
        return state

    def product(self, state: State) -> Product:
        """q, with the local factors that are optimal for the globals."""
        return self.model.product({**state.naturals, **self._local(state.moments, self.arrays)})

    @property
    def fixed(self) -> tuple[Array | None, ...]:
        """The arrays without those that hold one entry per row."""
        slots = self.parts.row_slots()
        return tuple(None if i in slots else a for i, a in enumerate(self.arrays))

    @property
    def _float(self) -> Any:
        return jnp.result_type(float)

    def _swept(self, moments: Moments, naturals: Naturals, entropies: Any, arrays: Any, size: int) -> Any:
        """(moments, naturals, entropies, bounds before and after the globals, their gains, inside their domain)."""
        statistics, local = self._pass[size](moments, arrays)
        weight = np.asarray(self.parts.size / size, self._float)
        return self._globals(moments, naturals, entropies, self.fixed, statistics, local, weight)

    def _advanced(self, state: State) -> State:
        moments, naturals, entropies, bounds, gains, inside = self._swept(
            state.moments, state.naturals, self.entropies(state), self.arrays, self.parts.size
        )
        self.check_inside(np.asarray(inside), naturals)
        before, after = (
            (self.finite(float(b)) for b in bounds) if state.history else (0.0, self.finite(float(bounds[1])))
        )
        new = State(moments, naturals, (*state.history, after), state.sweeps + 1, entropies)
        if state.history:
            self._check_stream(new, state.elbo, before, np.asarray(gains))
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

    def magnitude(self, state: State) -> float:
        """Σ |terms| of the expected log joint."""

        @Program
        def program(moments: Moments, fixed: Any, statistics: Interface) -> Any:
            parts = zip(statistics, self.parts.interface(moments, fixed), strict=True)
            return sum(jnp.abs(_paired(s, g)) for s, g in parts) + jnp.abs(self.parts.rest_energy(moments, fixed))

        statistics, _ = self._pass[self.parts.size](state.moments, self.arrays)
        return float(program(state.moments, self.fixed, statistics))

    def chosen(self, arrays: Sequence[Array], rows: Any) -> tuple[Array, ...]:
        """The arrays with these rows only."""
        slots = self.parts.row_slots()
        if isinstance(rows, np.ndarray):  # on the host, where nothing is compiled
            return tuple(np.take(np.asarray(a), rows, axis=slots[i]) if i in slots else a for i, a in enumerate(arrays))
        return tuple(jnp.take(a, rows, axis=slots[i]) if i in slots else a for i, a in enumerate(arrays))

    def step(self, moments: Moments, naturals: Naturals, arrays: Sequence[Array], rows: int, rate: Any) -> Any:
        """A natural-gradient step from `rows` rows that stand for all: (moments, naturals, blocks in their domain)."""
        statistics, _ = self._statistics(self.parts.interface(moments, arrays), arrays, rows)
        inside = []
        for name in self.order:
            message = self._message(name, moments, arrays, statistics, self.parts.size / rows)
            natural = jax.tree.map(lambda old, new: old + rate * (new - old), naturals[name], message)
            factor = self.model.factor(name, natural)
            inside.append(jnp.all(factor.contains()))
            moments, naturals = {**moments, name: factor.mean_params()}, {**naturals, name: natural}
        return moments, naturals, jnp.stack(inside)

    def bound(self, moments: Moments, naturals: Naturals, arrays: Sequence[Array]) -> Any:
        """The exact bound with optimal local factors, in nats."""
        interface = self.parts.interface(moments, arrays)
        statistics, sizes = self._statistics(interface, arrays, self.parts.size)
        own = sum(self.model.factor(n, naturals[n]).entropy() for n in self.order)
        return sizes + self._beside(statistics, interface) + self.parts.rest_energy(moments, arrays) + own

    def _beside(self, statistics: Interface, interface: Interface) -> Any:
        """⟨S, G⟩ over the groups without a local block."""
        pairs = zip(self.parts.groups, statistics, interface, strict=True)
        return sum((_paired(s, g) for group, s, g in pairs if group.local is None), 0.0)

    def _energy(self, at: Moments, arrays: Any, statistics: Interface, weight: Any) -> Any:
        """The expected log joint as a function of the globals, given the statistics."""
        pairs = zip(statistics, self.parts.interface(at, arrays), strict=True)
        return weight * sum(_paired(s, g) for s, g in pairs) + self.parts.rest_energy(at, arrays)

    def _message(self, name: str, moments: Moments, arrays: Any, statistics: Interface, weight: Any) -> Any:
        def energy(own: Any) -> Any:
            return self._energy({**moments, name: own}, arrays, statistics, weight)

        return jax.grad(energy)(moments[name])

    def _statistics(
        self, interface: Interface, arrays: Sequence[Array], size: int, values: dict[str, Array] | None = None
    ) -> tuple[Interface, Any]:
        """(S, Σ A of the local factors) over `size` rows, the local factors optimal or concentrated at `values`."""
        parameters, pull = jax.vjp(self.rows.parameters, interface)
        low = jax.tree.map(lambda a: a.astype(self.row_kind), parameters)
        count = chunk_size(size, max(64, CACHE // (self.row_kind.itemsize * self.rows.size)))
        whole, left = divmod(size, count)
        masked = left > 0 and not self.rows.loose

        def add(total: Any, start: Any, count: int, first: Any = None) -> Any:
            chunk = Chunk(arrays, start, count)
            factors, features = self.rows.factors(low, chunk)
            if values:
                local, sizes = self.rows.at(values, factors, chunk), [jnp.zeros(count)]
            else:
                solved = {name: factor.solved() for name, factor in factors.items()}
                local = {name: mean for name, (mean, _) in solved.items()}
                sizes = [self.rows.by_row(name, each) for name, (_, each) in solved.items()]
            if first is not None:
                seen = start + np.arange(count) >= first
                features = [jnp.where(seen, phi, 0.0) for phi in features]
                sizes = [jnp.where(seen, each, 0.0) for each in sizes]
            found = self.rows.statistics(local, features, low, chunk)
            found = (found, sum(jnp.sum(each.astype(self._float)) for each in sizes))
            return jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, found)

        total: Any = (jax.tree.map(jnp.zeros_like, parameters), jnp.zeros(()))
        if masked:  # the last chunk begins early enough to be whole; what was counted before is left out
            total = jax.lax.fori_loop(
                0, whole + 1, lambda i, t: add(t, jnp.minimum(i * count, size - count), count, i * count), total
            )
        else:
            total = jax.lax.fori_loop(0, whole, lambda i, t: add(t, i * count, count), total)
            total = add(total, whole * count, left) if left else total
        return pull(total[0])[0], total[1]

    def _rows_program(self, size: int, moments: Moments, arrays: Sequence[Array]) -> Any:
        return self._statistics(self.parts.interface(moments, arrays), arrays, size)

    def _values_program(self, moments: Moments, arrays: Sequence[Array], values: dict[str, Array]) -> Any:
        return self._statistics(self.parts.interface(moments, arrays), arrays, self.parts.size, values)

    def _begin_program(self, start: Moments, arrays: Sequence[Array]) -> Any:
        """Statistics from given local moments, on a subset of the rows."""
        size = next(iter(start[self.parts.local[0]].values())).shape[0]
        parameters, pull = jax.vjp(self.rows.parameters, self.parts.interface(start, arrays))
        chunk = Chunk(arrays, 0, size)
        features = [self.rows.features(pack, chunk) for pack in self.rows.packs]
        found = self.rows.statistics(self.rows.turned(start, rows_first=False), features, parameters, chunk)
        found = jax.tree.map(lambda a, b: b.astype(a.dtype), parameters, found)
        return pull(found)[0], jnp.zeros(())

    def _globals_program(
        self,
        moments: Moments,
        naturals: Naturals,
        entropies: dict[str, Any],
        arrays: Any,
        statistics: Interface,
        sizes: Any,
        weight: Any,
    ) -> Any:
        interface = self.parts.interface(moments, arrays)
        beside = self._beside(statistics, interface)
        inside_energy = sum(_paired(s, g) for s, g in zip(statistics, interface, strict=True)) - beside
        rest = self.parts.rest_energy(moments, arrays)
        before, gains, inside = weight * (sizes + beside) + rest + sum(entropies.values()), [], []
        for name in self.order:
            factor = self.model.factor(name, self._message(name, moments, arrays, statistics, weight))
            update = updated(factor, moments[name], entropies[name])
            gains.append(update.gain)
            inside.append(update.inside)
            moments, naturals = {**moments, name: update.mean}, {**naturals, name: update.natural}
            entropies = {**entropies, name: update.entropy}
        after = self._energy(moments, arrays, statistics, weight) + weight * (sizes - inside_energy)
        bounds = (before, after + sum(entropies.values()))
        return moments, naturals, entropies, bounds, jnp.stack(gains), jnp.stack(inside)

    def _local_naturals(self, moments: Moments, arrays: Sequence[Array]) -> Naturals:
        chunk = Chunk(arrays, 0, self.parts.size)
        parameters = self.rows.parameters(self.parts.interface(moments, arrays))
        factors, _ = self.rows.factors(jax.tree.map(lambda a: a.astype(self.row_kind), parameters), chunk)
        return self.rows.turned({name: factor.natural for name, factor in factors.items()}, rows_first=True)


def chunk_size(rows: int, target: int = CHUNK) -> int:
    """A divisor of `rows` near `target` where there is one, so that no shorter last chunk needs code of its own."""
    near = [n for n in range(max(1, target // 2), 2 * target + 1) if rows % n == 0]
    return min(near, key=lambda n: abs(n - target)) if near else min(target, rows)


def _paired(left: Array, right: Array) -> Any:
    """⟨S, G⟩, with 0 · ±inf = 0."""
    return jnp.sum(jnp.where(left == 0, 0.0, left * right))
