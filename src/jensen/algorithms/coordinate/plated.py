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
WIDEST = 2**20
"""Numbers in the local moments of a chunk."""
SUBSET = 4096
SUBSET_SWEEPS = 30
ROUNDS, SETTLED = 100, 1e-3
"""From a cold start: at most so many rounds over the local blocks, until their moments change by less than this."""


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
    """Coordinate ascent over a plate split. The state holds the global blocks, and the moments of carried local ones.

    A sweep updates the local factors from the globals and then the globals one by one from the statistics. The bound
    after it is exact: with the statistics S the plate's expected log joint is ⟨S, G(globals)⟩. Where local blocks
    depend on each other (the topics of a document and of its words) some are carried from sweep to sweep, which makes
    every update exact; from a cold start several rounds over the local blocks come first.
    """

    def __init__(self, parts: PlateSplit):
        super().__init__(parts.model)
        self.parts = parts
        self.order = tuple(name for name in self.order if name in parts.shared)
        self.stride = 1
        self.width = sum(parts.width(name) for name in parts.local)
        self._sweep = jax.jit(self._sweep_program, static_argnums=(3, 4))
        self._begin = jax.jit(self._begin_program)

    def cold(self, rows: int) -> Moments:
        """Moments of the carried blocks to begin with, the same in every row."""
        found: Moments = {}
        for name in self.parts.carried:
            block = self.model.blocks[name]
            shape = (1, *self.model.sites[block.sites[0]].shape[1:])
            start = block.start(np.random.default_rng(0), shape)
            found[name] = {
                k: jnp.broadcast_to(jnp.asarray(v, jnp.result_type(float)), (rows, *v.shape[1:]))
                for k, v in start.items()
            }
        return found

    def starts(self, rng: np.random.Generator, count: int, sweeps: int) -> list[State]:
        """`count` starts, run on one random subset of the rows; the best then makes one sweep over all."""
        size = min(SUBSET, self.parts.size)
        subset = self.chosen(self.model.energy.arrays, np.sort(rng.choice(self.parts.size, size, replace=False)))
        found: list[tuple[float, Moments, Naturals]] = []
        for i in range(count):
            start = random_start(self.model, rng, i % 2 == 0, dict.fromkeys(self.parts.local, size))
            moments, naturals = self._begin(start, subset)
            elbo = -np.inf
            for _ in range(max(SUBSET_SWEEPS, sweeps)):
                moments, naturals, (_, after), _, _ = self._sweep(moments, naturals, subset, size, 1)
                if not float(after) > elbo + 1e-6 * self.model.rows:
                    break
                elbo = float(after)
            found.append((elbo, moments, naturals))
        found.sort(key=lambda item: -item[0])
        best = self._advanced({**found[0][1], **self.cold(self.parts.size)}, found[0][2], (), 0, ROUNDS)
        return [best, *(State(m, n, (e,), 0) for e, m, n in found[1:])]

    def given(self, rng: np.random.Generator, init: Mapping[str, Any]) -> State:
        """The start at these values of some global sites."""
        rows = dict.fromkeys(self.parts.local, 1)
        moments = given_start(self.model, rng, init, rows)
        return self.begin({name: moments[name] for name in self.order})

    def pushed(self, state: State, rng: np.random.Generator) -> State:
        """The state after a small random push of the globals and one sweep."""
        shared = {name: state.moments[name] for name in self.order}
        carried = {name: state.moments[name] for name in self.parts.carried}
        return self.begin({**perturbed(self.model, shared, rng), **carried})

    def begin(self, moments: Moments) -> State:
        """The state after one sweep from these moments; carried blocks that are missing start cold."""
        naturals = {name: self.model.blocks[name].zeros() for name in self.order}
        kept = {name: moments[name] for name in (*self.order, *self.parts.carried) if name in moments}
        rounds = 1 if len(kept) == len(self.order) + len(self.parts.carried) else ROUNDS
        return self._advanced({**self.cold(self.parts.size), **kept}, naturals, (), 0, rounds)

    def advance(self, state: State, count: int) -> State:
        """`count` more sweeps, each checked."""
        for _ in range(count):
            state = self._advanced(state.moments, state.naturals, state.history, state.sweeps)
        return state

    def product(self, state: State) -> Product:
        """q, with the local factors that are optimal for the globals."""
        local = jax.jit(self._local_naturals)(state.moments, self.model.energy.arrays)
        return self.model.product({**state.naturals, **local})

    def _advanced(
        self, moments: Moments, naturals: Naturals, history: tuple[float, ...], sweeps: int, rounds: int = 1
    ) -> State:
        arrays = self.model.energy.arrays
        moments, naturals, bounds, gains, inside = self._sweep(moments, naturals, arrays, self.parts.size, rounds)
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
            carried = {name: moments[name] for name in self.parts.carried}
            statistics, _, _ = self._statistics(interface, arrays, self.parts.size, carried, 1)
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

    def _statistics(
        self, interface: Interface, arrays: Sequence[Array], rows: int, carried: Moments, rounds: int
    ) -> tuple[Interface, Any, Moments]:
        """(S, the rows' part of the bound, carried moments) of `rows` rows after at most `rounds` local rounds."""

        def chunk(start: Any, count: int, carried: Moments) -> tuple[Any, Moments]:
            own = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, count), carried)
            own = self._settled(interface, arrays, start, count, own, rounds)
            factors = self.parts.updated_rows(interface, arrays, start, count, own)
            local = {name: factor.mean_params() for name, factor in factors.items()}
            energy, statistics = jax.value_and_grad(self.parts.rows_energy, argnums=1)(
                local, interface, arrays, start, count
            )
            new = {name: local[name] for name in self.parts.carried}
            carried = jax.tree.map(
                lambda all, part: jax.lax.dynamic_update_slice_in_dim(all, part, start, 0), carried, new
            )
            return (statistics, energy + sum(factor.entropy() for factor in factors.values())), carried

        total: Any = (jax.tree.map(jnp.zeros_like, interface), jnp.zeros(()))
        size = chunk_size(rows, self.width)
        whole = rows // size

        def body(i: Any, state: Any) -> Any:
            part, carried = chunk(i * size, size, state[1])
            return jax.tree.map(jnp.add, state[0], part), carried

        total, carried = jax.lax.fori_loop(0, whole, body, (total, carried))
        if rows % size:
            part, carried = chunk(whole * size, rows % size, carried)
            total = jax.tree.map(jnp.add, total, part)
        return total[0], total[1], carried

    def _settled(
        self, interface: Interface, arrays: Sequence[Array], start: Any, count: int, carried: Moments, rounds: int
    ) -> Moments:
        """The carried moments after at most `rounds` - 1 rounds over the local blocks."""
        if rounds == 1 or not self.parts.carried:
            return carried

        def more(state: Any) -> Any:
            return (state[0] < rounds - 1) & (state[1] > SETTLED)

        def step(state: Any) -> Any:
            i, _, old = state
            factors = self.parts.updated_rows(interface, arrays, start, count, old)
            new = {name: factors[name].mean_params() for name in self.parts.carried}
            moved = jax.tree.map(lambda a, b: jnp.mean(jnp.abs(a - b)) / (1e-300 + jnp.mean(jnp.abs(a))), new, old)
            return i + 1, jnp.max(jnp.stack(jax.tree.leaves(moved))), new

        return jax.lax.while_loop(more, step, (0, jnp.asarray(jnp.inf), carried))[2]

    def _sweep_program(
        self, moments: Moments, naturals: Naturals, arrays: Sequence[Array], rows: int, rounds: int = 1
    ) -> Any:
        """(moments, naturals, bounds before and after the globals, gains of the globals, inside their domain)."""
        weight = self.parts.size / rows
        interface = self.parts.interface(moments, arrays)
        carried = {name: moments[name] for name in self.parts.carried}
        statistics, bound, carried = self._statistics(interface, arrays, rows, carried, rounds)
        local_entropy = bound - _paired(statistics, interface)
        return self._globals({**moments, **carried}, naturals, arrays, statistics, weight, local_entropy)

    def _begin_program(self, start: Moments, arrays: Sequence[Array]) -> Any:
        """Global moments from given local moments, on a subset of the rows."""
        rows = next(iter(start[self.parts.local[0]].values())).shape[0]
        moments = {name: start[name] for name in (*self.order, *self.parts.carried)}
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
        size, carried = self.parts.size, {name: moments[name] for name in self.parts.carried}
        if carried:
            carried = self._statistics(interface, arrays, size, carried, ROUNDS)[2]
        factors = self.parts.updated_rows(interface, arrays, 0, size, carried)
        return {name: factors[name].natural for name in self.parts.local}


def chunk_size(rows: int, width: int = 1) -> int:
    """A divisor of `rows` near `CHUNK` where there is one, so that no shorter last chunk needs a program of its own.

    Rows whose local moments are wide (`width` numbers) come in smaller chunks.
    """
    aim = max(8, min(CHUNK, WIDEST // max(1, width)))
    near = [n for n in range(aim // 2, 2 * aim + 1) if rows % n == 0]
    return min(near, key=lambda n: abs(n - aim)) if near else min(aim, rows)


def _paired(left: Interface, right: Interface) -> Any:
    """⟨S, G⟩."""
    return sum((jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)), 0.0)
