"""The local step of streaming methods: the factors of some rows at their joint optimum, and what they tell globals."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array
from jensen._conjugate.algebra import Moments, Naturals
from jensen._conjugate.algebra.plates import Interface, PlateSplit
from jensen._conjugate.algebra.potentials import Potentials, potentials
from jensen._conjugate.algebra.rows import CACHE, Chunk, Rows
from jensen._families.exponential import AbstractExponentialFactor
from jensen._families.exponential.contract import product

WIDE = 2**22
"""Numbers that rows may take whose discrete latents are summed out: what they say to the globals is summed at once."""


class LocalStep:
    """Coordinate ascent over the local blocks of each row, to convergence, with the globals held.

    Blocks that depend on the globals only are set to their optimum at once. Otherwise rounds over the local blocks
    follow from a fixed start (discrete latents uniform), until one moves q by less than a tolerance in nats a row,
    measured by Σ ⟨Δη, ΔE[t]⟩ = KL(q ‖ q') + KL(q' ‖ q) over the carried blocks, or after `most` of them.
    """

    parts: PlateSplit
    rows: Rows
    most: int
    potentials: Potentials | None
    inner: int
    chunk: int

    def __init__(self, parts: PlateSplit, most: int):
        self.parts, self.rows, self.most = parts, Rows(parts), most
        self.potentials = potentials(self.rows)
        self.inner = _chunk(parts.size, max(8, CACHE // (8 * self.rows.size)))
        wide = self.inner if self.potentials is None else max(8, WIDE // self.rows.size)
        self.chunk = _chunk(parts.size, wide)

    def factors(
        self, parameters: Any, features: list[Array], chunk: Chunk, tolerance: Any
    ) -> dict[str, AbstractExponentialFactor]:
        """The optimal factors of a chunk."""
        if not self.parts.carried:
            return self.rows.factors(parameters, features, chunk, {})

        def again(state: Any) -> Any:
            i, moments, naturals, _ = state
            factors = self.rows.factors(parameters, features, chunk, moments)
            new = {name: factors[name].mean_params() for name in self.parts.carried}
            new_naturals = {name: factors[name].natural for name in self.parts.carried}
            moved = jax.tree.map(lambda a, b, c, d: jnp.sum((a - b) * (c - d)), new_naturals, naturals, new, moments)
            return i + 1, new, new_naturals, sum(jax.tree.leaves(moved), start=jnp.zeros((), self.kind(chunk)))

        def going(state: Any) -> Any:
            return (state[0] < self.most) & (state[3] > tolerance * chunk.count)

        moments, naturals = self._begun(parameters, features, chunk)
        unsettled = jnp.full((), jnp.inf, self.kind(chunk))
        moments = jax.lax.while_loop(going, again, (0, moments, naturals, unsettled))[1]
        return self.rows.factors(parameters, features, chunk, moments)

    def kind(self, chunk: Chunk) -> Any:
        """The floating type of the rows."""
        return self.rows.kind(chunk.arrays)

    def _begun(self, parameters: Any, features: list[Array], chunk: Chunk) -> tuple[Moments, Naturals]:
        """The carried blocks, set in turn from uniform discrete latents and any values of the others."""
        moments, naturals = {}, {}
        for name in self.parts.local:
            moments[name] = self._start(name, chunk)
        moments = self.rows.turned(moments, rows_first=False)
        for name in self.parts.carried:
            factor = self.rows.optimal({name: moments[name]}, moments, parameters, features, chunk)[name]
            moments[name], naturals[name] = factor.mean_params(), factor.natural
        return {name: moments[name] for name in self.parts.carried}, naturals

    def _start(self, name: str, chunk: Chunk) -> Any:
        """Moments to begin with: uniform where the block is discrete, any values otherwise, the same in every row."""
        block = self.parts.model.blocks[name]
        if block.discrete:
            zero = {k: jnp.zeros((chunk.count, *s[1:]), self.kind(chunk)) for k, s in block.shapes.items()}
            return self.parts.model.factor(name, zero).mean_params()
        shape = (1, *self.parts.model.sites[block.sites[0]].shape[1:])
        start = block.start(np.random.default_rng(0), shape)
        return {k: jnp.repeat(jnp.asarray(a, self.kind(chunk)), chunk.count, 0) for k, a in start.items()}

    def _summed(self, low: Any, features: list[Array], chunk: Chunk, tolerance: Any, weights: Array) -> Any:
        """(S, the bound of the rows less ⟨S, G⟩, the least sum over states) with the discrete latents summed out."""
        found, model, carried = self.potentials, self.parts.model, self.parts.carried
        assert found is not None
        prepared = found.prepared(low, features, chunk)
        moments, naturals = self._settled(low, features, prepared, chunk, tolerance)

        def bound(low: Any) -> Any:
            return found.energy(moments, low[1], found.prepared(low, features, chunk), chunk, weights)

        (total, least), statistics = jax.value_and_grad(bound, has_aux=True)(low)
        linear = jax.tree.map(jnp.vdot, statistics, low)
        for name in carried:
            mean, size = model.factor(name, naturals[name]).solved()
            total = total + jnp.sum(weights * self._entropies(name, size, naturals[name], mean))
        own = self.rows.packed_statistics(moments, features, chunk, weights)
        packed = tuple(a if b is None else b for a, b in zip(statistics[0], own, strict=True))
        return (packed, statistics[1]), total - sum(jax.tree.leaves(linear), start=jnp.zeros(())), least

    def _settled(self, low: Any, features: list[Array], prepared: list[Any], chunk: Chunk, tolerance: Any) -> Any:
        """(moments, natural parameters) of the carried blocks, some rows at a time until these have converged."""
        inner = min(chunk.count, self.inner)
        if inner == chunk.count:
            return self._rounds(low, features, prepared, chunk, tolerance)

        def cut(array: Array, start: Any, axis: int = 0) -> Array:
            held = array.ndim > 0 and array.shape[axis] == chunk.count
            return jax.lax.dynamic_slice_in_dim(array, start, inner, axis) if held else array

        def piece(i: Any, done: Any) -> Any:
            start = jnp.minimum(i * inner, chunk.count - inner)  # the last piece overlaps the one before
            some = Chunk(chunk.arrays, chunk.start + start, inner)
            own = [tuple(cut(a, start) for a in parts) for parts in prepared]
            new = self._rounds(low, [cut(phi, start, -1) for phi in features], own, some, tolerance)
            return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, start, 0), done, new)

        def empty(name: str) -> Any:
            shapes = self.parts.model.blocks[name].shapes
            return {k: jnp.zeros((chunk.count, *s[1:]), self.kind(chunk)) for k, s in shapes.items()}

        zeros = {name: empty(name) for name in self.parts.carried}
        return jax.lax.fori_loop(0, -(-chunk.count // inner), piece, (zeros, zeros))

    def _rounds(self, low: Any, features: list[Array], prepared: list[Any], chunk: Chunk, tolerance: Any) -> Any:
        """Rounds over the carried blocks, discrete latents summed out, from latents that follow the globals alone."""
        found, model = self.potentials, self.parts.model
        assert found is not None

        def round_of(moments: Moments, level: bool = False) -> tuple[Moments, Naturals]:
            naturals: Naturals = {}
            for name in self.parts.carried:
                packed = self.rows.packed({name: moments[name]}, low, features, chunk)[name]

                def energy(own: Any, name: str = name, moments: Moments = moments) -> Any:
                    return found.energy({**moments, name: own}, low[1], prepared, chunk, level=level)[0]

                message = jax.grad(energy)(moments[name])
                naturals[name] = {k: v + packed[k] if k in packed else v for k, v in message.items()}
                moments = {**moments, name: model.factor(name, naturals[name]).mean_params()}
            return moments, naturals

        def again(state: Any) -> Any:
            i, moments, naturals, _ = state
            new, new_naturals = round_of(moments)
            moved = jax.tree.map(lambda a, b, c, d: jnp.sum((a - b) * (c - d)), new_naturals, naturals, new, moments)
            return i + 1, new, new_naturals, sum(jax.tree.leaves(moved), start=jnp.zeros((), self.kind(chunk)))

        def going(state: Any) -> Any:
            return (state[0] < self.most) & (state[3] > tolerance * chunk.count)

        start = {name: self._start(name, chunk) for name in self.parts.carried}
        unsettled = jnp.full((), jnp.inf, self.kind(chunk))
        return jax.lax.while_loop(going, again, (0, *round_of(start, level=True), unsettled))[1:3]

    def statistics(
        self,
        interface: Interface,
        arrays: Sequence[Array],
        weights: Array,
        tolerance: Any,
        given: Moments | None = None,
        exact: bool = False,
    ) -> tuple[Interface, Any, Any]:
        """(S, the bound of the rows less ⟨S, G⟩ in nats, whether no sum over states ran out of digits).

        Each row counts as often as its weight says. With `given` local moments (of all rows, which are then one chunk)
        the entropy is left out. `exact` takes potentials as logarithms throughout, which is slower.
        """
        parameters, pull = jax.vjp(self.rows.parameters, interface)
        kind = self.rows.kind(arrays)
        low = jax.tree.map(lambda a: a.astype(kind), parameters)
        summed = self.potentials is not None and given is None and not exact

        def chunk(start: Any, count: int) -> tuple[Any, Any, Any]:
            piece = Chunk(arrays, start, count)
            features = self.rows.all_features(piece)
            own = jax.lax.dynamic_slice_in_dim(weights, start, count).astype(kind)
            least: Any = jnp.full((), jnp.inf, kind)
            if summed:
                found, entropy, least = self._summed(low, features, piece, tolerance, own)
            elif given is not None:
                local, entropy = self.rows.turned(given, rows_first=False), jnp.zeros(())
                found = self.rows.statistics(local, features, low, piece, own)
            else:
                factors = self.factors(low, features, piece, tolerance)
                solved = {name: factor.solved() for name, factor in factors.items()}
                local = {name: mean for name, (mean, _) in solved.items()}
                parts = [self._entropies(n, size, factors[n].natural, mean) for n, (mean, size) in solved.items()]
                entropy = sum((jnp.sum(own * part) for part in parts), start=jnp.zeros(()))
                found = self.rows.statistics(local, features, low, piece, own)
            return jax.tree.map(lambda a, b: a.astype(b.dtype), found, parameters), entropy.astype(float), least

        def joined(total: Any, new: Any) -> Any:
            return (*jax.tree.map(jnp.add, total[:2], new[:2]), jnp.minimum(total[2], new[2]))

        if given is not None or self.chunk == self.parts.size:
            total = chunk(0, self.parts.size)
        else:
            zeros = jax.tree.map(jnp.zeros_like, parameters)
            total = (zeros, jnp.zeros(()), jnp.full((), jnp.inf, kind))
            whole, left = divmod(self.parts.size, self.chunk)
            step = lambda i, total: joined(total, chunk(i * self.chunk, self.chunk))  # noqa: E731
            total = jax.lax.fori_loop(0, whole, step, total)
            total = joined(total, chunk(whole * self.chunk, left)) if left else total
        return pull(total[0])[0], total[1], total[2] > jnp.finfo(kind).tiny / jnp.finfo(kind).eps

    def _entropies(self, name: str, sizes: Array, natural: Any, mean: Any) -> Array:
        """The entropy of every row, in nats."""
        total = self.rows.by_row(name, sizes)
        for eta, mu in zip(jax.tree.leaves(natural), jax.tree.leaves(mean), strict=True):
            total = total - self.rows.by_row(name, product(eta, mu))
        return total


def _chunk(rows: int, near: int) -> int:
    """A divisor of `rows` of about that size where there is one."""
    if rows <= near:
        return rows
    divisors = [n for n in range(max(1, near // 2), min(rows, 2 * near) + 1) if rows % n == 0]
    return min(divisors, key=lambda n: abs(n - near)) if divisors else near
