"""Sweeps that stream the rows of a plate: local factors are made, summed into statistics and dropped by chunks."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._errors import JensenError
from jensen._typing import Array
from jensen.algorithms.coordinate.ascent import Ascent, State, accounted
from jensen.algorithms.coordinate.starts import given_start, perturbed, random_start
from jensen.families.exponential import Product
from jensen.families.exponential.contract import inner
from jensen.models.conjugacy import ConjugateModel, Moments, Naturals
from jensen.models.conjugacy.energy import INLINE
from jensen.models.conjugacy.plates import Interface, PlateSplit, split

CHUNK = 1024
SUBSET = 4096
SUBSET_SWEEPS = 30


def ascent_for(model: ConjugateModel, init: Mapping[str, Any] | None = None) -> Ascent:
    """The streaming ascent where a large plate allows it, the plain one otherwise."""
    first = tuple(init or ())
    plates = {p.name: p.size for site in model.sites.values() for p in site.plates}
    for plate, size in sorted(plates.items(), key=lambda item: -item[1]):
        if size <= INLINE:
            break
        parts = split(model, plate)
        if parts is None or not parts.shared:
            continue
        if not any(model.layout.owner.get(site) in parts.local for site in first):
            return PlatedAscent(parts)
    return Ascent(model, first)


class PlatedAscent(Ascent):
    """Coordinate ascent over a plate split. The state holds the global blocks only.

    A sweep makes the local factors from the globals and then updates the globals one by one from the statistics. The
    bound after it is exact: with the statistics S the plate's expected log joint is ⟨S, G(globals)⟩.
    """

    def __init__(self, parts: PlateSplit):
        super().__init__(parts.model)
        self.parts = parts
        self.order = tuple(name for name in self.order if name in parts.shared)
        self.stride = 1
        self._sweep = jax.jit(self._sweep_program, static_argnums=3)
        self._begin = jax.jit(self._begin_program)

    def starts(self, rng: np.random.Generator, count: int, sweeps: int) -> list[State]:
        """`count` starts, run on one random subset of the rows; the best then makes one sweep over all."""
        size = min(SUBSET, self.parts.size)
        subset = self.chosen(self.model.energy.arrays, np.sort(rng.choice(self.parts.size, size, replace=False)))
        found = []
        for i in range(count):
            start = random_start(self.model, rng, i % 2 == 0, dict.fromkeys(self.parts.local, size))
            moments, naturals = self._begin(start, subset)
            elbo = -np.inf
            for _ in range(max(SUBSET_SWEEPS, sweeps)):
                moments, naturals, (_, after), _, _ = self._sweep(moments, naturals, subset, size)
                if not float(after) > elbo + 1e-6 * self.model.rows:
                    break
                elbo = float(after)
            found.append((elbo, moments, naturals))
        found.sort(key=lambda item: -item[0])
        best = self._advanced(found[0][1], found[0][2], (), 0)
        return [best, *(State(m, n, (e,), 0) for e, m, n in found[1:])]

    def given(self, rng: np.random.Generator, init: Mapping[str, Any]) -> State:
        """The start at these values of some global sites."""
        rows = dict.fromkeys(self.parts.local, 1)
        moments = given_start(self.model, rng, init, rows)
        return self.begin({name: moments[name] for name in self.order})

    def pushed(self, state: State, rng: np.random.Generator) -> State:
        """The state after a small random push of the globals and one sweep."""
        return self.begin(perturbed(self.model, state.moments, rng))

    def begin(self, moments: Moments) -> State:
        """The state after one sweep from these global moments."""
        naturals = {name: self.model.blocks[name].zeros() for name in self.order}
        return self._advanced({name: moments[name] for name in self.order}, naturals, (), 0)

    def advance(self, state: State, count: int) -> State:
        """`count` more sweeps, each checked."""
        for _ in range(count):
            state = self._advanced(state.moments, state.naturals, state.history, state.sweeps)
        return state

    def product(self, state: State) -> Product:
        """q, with the local factors that are optimal for the globals."""
        local = jax.jit(self._local_naturals)(state.moments, self.model.energy.arrays)
        return self.model.product({**state.naturals, **local})

    def _advanced(self, moments: Moments, naturals: Naturals, history: tuple[float, ...], sweeps: int) -> State:
        arrays = self.model.energy.arrays
        moments, naturals, bounds, gains, inside = self._sweep(moments, naturals, arrays, self.parts.size)
        self.check_inside(np.asarray(inside), naturals)
        state = State(moments, naturals, (*history, self.finite(float(bounds[1]))), sweeps + 1)
        if history:
            self._check_stream(state, history[-1], self.finite(float(bounds[0])), np.asarray(gains))
        return state

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

        @jax.jit
        def program(moments: Moments, arrays: Sequence[Array]) -> Any:
            interface = self.parts.interface(moments, arrays)
            statistics, _ = self._statistics(interface, arrays, self.parts.size)
            parts = zip(jax.tree.leaves(statistics), jax.tree.leaves(interface), strict=True)
            return sum(jnp.abs(jnp.vdot(s, g)) for s, g in parts) + jnp.abs(self.parts.rest_energy(moments, arrays))

        return float(program(state.moments, self.model.energy.arrays))

    def chosen(self, arrays: Sequence[Array], rows: Any) -> tuple[Array, ...]:
        """The arrays with these rows only."""
        slots = self.parts.row_slots()
        return tuple(jnp.take(a, rows, axis=slots[i]) if i in slots else a for i, a in enumerate(arrays))

    def _energy(self, at: Moments, arrays: Sequence[Array], statistics: Interface, weight: float) -> Any:
        """The expected log joint as a function of the globals, given the statistics."""
        return weight * _paired(statistics, self.parts.interface(at, arrays)) + self.parts.rest_energy(at, arrays)

    def _message(
        self, name: str, moments: Moments, arrays: Sequence[Array], statistics: Interface, weight: float
    ) -> Any:
        def energy(own: Any) -> Any:
            return self._energy({**moments, name: own}, arrays, statistics, weight)

        return jax.grad(energy)(moments[name])

    def _statistics(self, interface: Interface, arrays: Sequence[Array], rows: int) -> tuple[Interface, Any]:
        """(S, the rows' part of the bound) over `rows` rows with optimal local factors."""

        def chunk(start: Any, count: int) -> tuple[Interface, Any]:
            factors = self.parts.local_factors(interface, arrays, start, count)
            local = {name: factor.mean_params() for name, factor in factors.items()}
            energy, statistics = jax.value_and_grad(self.parts.rows_energy, argnums=1)(
                local, interface, arrays, start, count
            )
            return statistics, energy + sum(factor.entropy() for factor in factors.values())

        zero = (jax.tree.map(jnp.zeros_like, interface), jnp.zeros(()))
        size = chunk_size(rows)
        whole = rows // size

        def body(i: Any, total: Any) -> Any:
            return jax.tree.map(jnp.add, total, chunk(i * size, size))

        total = jax.lax.fori_loop(0, whole, body, zero)
        if rows % size:
            total = jax.tree.map(jnp.add, total, chunk(whole * size, rows % size))
        return total

    def _sweep_program(self, moments: Moments, naturals: Naturals, arrays: Sequence[Array], rows: int) -> Any:
        """(moments, naturals, bounds before and after the globals, gains of the globals, inside their domain)."""
        weight = self.parts.size / rows
        interface = self.parts.interface(moments, arrays)
        statistics, bound = self._statistics(interface, arrays, rows)
        local_entropy = bound - _paired(statistics, interface)
        return self._globals(moments, naturals, arrays, statistics, weight, local_entropy)

    def _begin_program(self, start: Moments, arrays: Sequence[Array]) -> Any:
        """Global moments from given local moments, on a subset of the rows."""
        rows = next(iter(start[self.parts.local[0]].values())).shape[0]
        moments = {name: start[name] for name in self.order}
        local = {name: start[name] for name in self.parts.local}
        interface = self.parts.interface(moments, arrays)
        statistics = jax.grad(self.parts.rows_energy, argnums=1)(local, interface, arrays, 0, rows)
        naturals = {name: self.model.blocks[name].zeros() for name in self.order}
        return self._globals(moments, naturals, arrays, statistics, self.parts.size / rows, 0.0)[:2]

    def _globals(
        self, moments: Moments, naturals: Naturals, arrays: Any, statistics: Interface, weight: float, entropy: Any
    ) -> Any:
        def bound(at: Moments, naturals: Naturals) -> Any:
            own = sum(self.model.factor(n, naturals[n]).entropy() for n in self.order)
            return self._energy(at, arrays, statistics, weight) + weight * entropy + own

        before, gains, inside = bound(moments, naturals), [], []
        for name in self.order:
            natural = self._message(name, moments, arrays, statistics, weight)
            new, old = self.model.factor(name, natural), self.model.factor(name, naturals[name])
            gains.append(jnp.sum(new.log_normalizer()) - inner(natural, moments[name]) - old.entropy())
            inside.append(jnp.all(new.contains()))
            moments, naturals = {**moments, name: new.mean_params()}, {**naturals, name: natural}
        return moments, naturals, (before, bound(moments, naturals)), jnp.stack(gains), jnp.stack(inside)

    def _local_naturals(self, moments: Moments, arrays: Sequence[Array]) -> Naturals:
        interface = self.parts.interface(moments, arrays)
        factors = self.parts.local_factors(interface, arrays, 0, self.parts.size)
        return {name: factor.natural for name, factor in factors.items()}


def chunk_size(rows: int) -> int:
    """A divisor of `rows` near `CHUNK` where there is one, so that no shorter last chunk needs a program of its own."""
    near = [n for n in range(CHUNK // 2, 2 * CHUNK + 1) if rows % n == 0]
    return min(near, key=lambda n: abs(n - CHUNK)) if near else min(CHUNK, rows)


def _paired(left: Interface, right: Interface) -> Any:
    """⟨S, G⟩."""
    return sum((jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)), 0.0)
