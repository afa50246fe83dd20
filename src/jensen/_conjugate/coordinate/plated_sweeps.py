"""The traced sweeps of a plate: local factors of some rows, their statistics, and the globals that follow from them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array
from jensen._conjugate.algebra import Moments, Naturals
from jensen._conjugate.algebra.plates import Interface, PlateSplit
from jensen._conjugate.algebra.rows import CACHE, Chunk, Rows
from jensen._conjugate.coordinate.ascent import HEAVY, factors_at, updated
from jensen._conjugate.coordinate.push import drawn
from jensen._families.exponential.contract import inner
from jensen._math.programs import Program

CHUNK = 1024
WIDEST = 2**20
"""Numbers in the local moments of a chunk."""
SUBSET, LARGEST = 4096, 16384
"""Rows on which starts are run: at least so many, or a fourth of the globals' parameters, up to a limit."""
EACH = 200
"""And so many for every value of a discrete latent: fewer hardly tell which components are two."""
ROUNDS, SETTLED = 100, 1e-3
"""From a cold start: at most so many rounds over the local blocks, until their moments change by less than this."""
HEAVY_ROWS = 1_000_000
"""Numbers in a pass over the rows beyond which it is worth optimising."""


class PlatedSweeps:
    """The compiled halves of a sweep over a split, without its data; `order` names the global blocks in turn.

    Rows and globals are two programs: the first takes the run time, the second most of the compile time, and serves any
    number of rows. `subset` is the number of rows on which starts are run; `telling` says whether they hold as many
    observed scalars as the globals have parameters, without which sweeps would settle on what is peculiar to them.
    """

    def __init__(self, parts: PlateSplit, order: tuple[str, ...]):
        self.row_kind = Rows(parts).kind(parts.arrays)
        self.parts = parts.without_data()
        self.model, self.rows, self.order = self.parts.model, Rows(self.parts), order
        entries = sum(int(np.prod(s)) for n in order for s in parts.model.blocks[n].shapes.values())
        values = max((len(s.values) for s in parts.model.sites.values() if s.values is not None), default=0)
        near = min(parts.size, int(np.clip(max(entries // 4, EACH * values), SUBSET, LARGEST)))
        self.telling = near / parts.size * self.model.rows >= entries
        self.subset = near
        heavy = {size: size * self.rows.size > HEAVY_ROWS for size in (parts.size, self.subset)}
        self.rows_pass = {
            (size, rounds): Program(partial(self._rows_program, size, rounds), heavy[size])
            for size in heavy
            for rounds in (1, ROUNDS)
        }
        self.globals = Program(self._globals_program, entries > HEAVY)
        self.at = Program(partial(factors_at, self.model))
        self.begin = Program(self._begin_program)
        self.from_values = Program(self._values_program)
        self.local = Program(partial(self.conditionals, parts.size))
        self.local_of_subset = Program(partial(self.conditionals, self.subset), heavy[self.subset])
        self.push = Program(partial(drawn, self.model, order))

    @property
    def _float(self) -> Any:
        return jnp.result_type(float)

    def cold(self, rows: int) -> Moments:
        """Moments of the carried blocks to begin with, the same in every row."""
        found: dict[str, Any] = {}
        for name in self.parts.carried:
            block = self.model.blocks[name]
            start = block.start(np.random.default_rng(0), (1, *self.model.sites[block.sites[0]].shape[1:]))
            found[name] = {k: np.repeat(np.asarray(v, self.row_kind), rows, 0) for k, v in start.items()}
        return found

    def conditionals(self, size: int, moments: Moments, carried: Moments, arrays: Sequence[Array]) -> Naturals:
        """Natural parameters of every row's optimal factors given global moments, of `size` rows; traceable."""
        interface = self.parts.interface(moments, arrays)
        if carried:
            carried = self._statistics(interface, arrays, size, carried, ROUNDS)[2]
        chunk = Chunk(arrays, 0, size)
        parameters = jax.tree.map(lambda a: a.astype(self.row_kind), self.rows.parameters(interface))
        factors = self.rows.factors(parameters, self.rows.all_features(chunk), chunk, carried)
        return self.rows.turned({name: factors[name].natural for name in self.parts.local}, rows_first=True)

    def bound(self, moments: Moments, naturals: Naturals, arrays: Sequence[Array]) -> Any:
        """The bound with optimal local factors, in nats; the globals in `naturals` add their entropy."""
        size, interface = self.parts.size, self.parts.interface(moments, arrays)
        rounds = ROUNDS if self.parts.carried else 1
        statistics, entropy, _ = self._statistics(interface, arrays, size, self.cold(size), rounds)
        own = sum(self.model.factor(n, natural).entropy() for n, natural in naturals.items())
        return self._energy(moments, arrays, statistics, 1.0)[0] + entropy + own

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
        def energy(name: str, own: Any) -> tuple[Any, Any]:
            """(the expected log joint, Σ |terms|), in nats, as a function of one global block."""
            return self._energy({**moments, name: own}, arrays, statistics, weight)

        gains, inside = [], []
        local = weight * entropy
        before = None
        for name in self.order:
            (value, _), message = jax.value_and_grad(partial(energy, name), has_aux=True)(moments[name])
            before = value + local + sum(entropies.values()) if before is None else before
            update = updated(self.model.factor(name, message), moments[name], entropies[name])
            gains.append(update.gain)
            inside.append(update.inside)
            moments, naturals = {**moments, name: update.mean}, {**naturals, name: update.natural}
            entropies = {**entropies, name: update.entropy}
        value, magnitude = self._energy(moments, arrays, statistics, weight)
        bounds = before, value + local + sum(entropies.values())
        return moments, naturals, entropies, bounds, magnitude, jnp.stack(gains), jnp.stack(inside)

    def _energy(self, at: Moments, arrays: Any, statistics: Interface, weight: Any) -> tuple[Any, Any]:
        """(the expected log joint, Σ |terms|) at these globals, given the statistics, in nats."""
        pairs = list(zip(statistics, self.parts.interface(at, arrays), strict=True))
        rest = self.parts.rest_energy(at, arrays)
        size = weight * sum(jnp.abs(_paired(s, g)) for s, g in pairs) + jnp.abs(rest)
        return weight * sum(_paired(s, g) for s, g in pairs) + rest, size

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


def sweeps_of(parts: PlateSplit, order: tuple[str, ...]) -> PlatedSweeps:
    """The sweeps of a split, made once for each layout of a model."""
    known = parts.model.layout.programs
    key = ("plated", parts.plate, order, parts.centred, jnp.result_type(float).name)
    if key not in known:
        known[key] = PlatedSweeps(parts, order)
    return known[key]


def chunk_size(rows: int, target: int = CHUNK) -> int:
    """A divisor of `rows` near `target` where there is one, so that no shorter last chunk needs code of its own."""
    near = [n for n in range(max(1, target // 2), 2 * target + 1) if rows % n == 0]
    return min(near, key=lambda n: abs(n - target)) if near else min(target, rows)


def _paired(left: Array, right: Array) -> Any:
    """⟨S, G⟩, with 0 · ±inf = 0."""
    return jnp.sum(jnp.where(left == 0, 0.0, left * right))
