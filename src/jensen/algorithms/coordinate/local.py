"""The local step of streaming methods: the factors of some rows at their joint optimum, and what they tell globals."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._typing import Array
from jensen.families.exponential import AbstractExponentialFactor
from jensen.models.conjugacy import Moments, Naturals
from jensen.models.conjugacy.plates import Interface, PlateSplit
from jensen.models.conjugacy.rows import CACHE, Chunk, Rows


class LocalStep:
    """Coordinate ascent over the local blocks of each row, to convergence, with the globals held.

    Blocks that depend on the globals only are set to their optimum at once. Otherwise rounds over the local blocks
    follow from a fixed start (discrete latents uniform), until one moves q by less than a tolerance in nats a row,
    measured by Σ ⟨Δη, ΔE[t]⟩ = KL(q ‖ q') + KL(q' ‖ q) over the carried blocks, or after `most` of them.
    """

    def __init__(self, parts: PlateSplit, most: int):
        self.parts, self.rows, self.most = parts, Rows(parts), most
        self.chunk = _chunk(parts.size, max(8, CACHE // (8 * self.rows.size)))

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
        moments, naturals, rng = {}, {}, np.random.default_rng(0)
        for name in self.parts.local:
            block = self.parts.model.blocks[name]
            if block.discrete:
                zero = {k: jnp.zeros((chunk.count, *s[1:]), self.kind(chunk)) for k, s in block.shapes.items()}
                moments[name] = self.parts.model.factor(name, zero).mean_params()
            else:
                shape = (chunk.count, *self.parts.model.sites[block.sites[0]].shape[1:])
                moments[name] = jax.tree.map(lambda a: jnp.asarray(a, self.kind(chunk)), block.start(rng, shape))
        moments = self.rows.turned(moments, rows_first=False)
        for name in self.parts.carried:
            factor = self.rows.optimal({name: moments[name]}, moments, parameters, features, chunk)[name]
            moments[name], naturals[name] = factor.mean_params(), factor.natural
        return {name: moments[name] for name in self.parts.carried}, naturals

    def statistics(
        self,
        interface: Interface,
        arrays: Sequence[Array],
        weights: Array,
        tolerance: Any,
        given: Moments | None = None,
    ) -> tuple[Interface, Any]:
        """(S, the entropy of the local factors in nats), each row counted as often as its weight says.

        With `given` local moments (of all rows, which are then one chunk) the entropy is left out.
        """
        parameters, pull = jax.vjp(self.rows.parameters, interface)
        low = jax.tree.map(lambda a: a.astype(self.rows.kind(arrays)), parameters)

        def chunk(start: Any, count: int) -> tuple[Any, Any]:
            piece = Chunk(arrays, start, count)
            features = self.rows.all_features(piece)
            own = jax.lax.dynamic_slice_in_dim(weights, start, count).astype(self.rows.kind(arrays))
            if given is not None:
                local, entropy = self.rows.turned(given, rows_first=False), jnp.zeros(())
            else:
                factors = self.factors(low, features, piece, tolerance)
                solved = {name: factor.solved() for name, factor in factors.items()}
                local = {name: mean for name, (mean, _) in solved.items()}
                parts = [self._entropies(n, size, factors[n].natural, mean) for n, (mean, size) in solved.items()]
                entropy = sum((jnp.sum(own * part) for part in parts), start=jnp.zeros(()))
            found = self.rows.statistics(local, features, low, piece, own)
            return jax.tree.map(lambda a, b: a.astype(b.dtype), found, parameters), entropy.astype(float)

        if given is not None or self.chunk == self.parts.size:
            found, entropy = chunk(0, self.parts.size)
            return pull(found)[0], entropy
        total: Any = (jax.tree.map(jnp.zeros_like, parameters), jnp.zeros(()))
        whole, left = divmod(self.parts.size, self.chunk)
        total = jax.lax.fori_loop(
            0, whole, lambda i, total: jax.tree.map(jnp.add, total, chunk(i * self.chunk, self.chunk)), total
        )
        total = jax.tree.map(jnp.add, total, chunk(whole * self.chunk, left)) if left else total
        return pull(total[0])[0], total[1]

    def _entropies(self, name: str, sizes: Array, natural: Any, mean: Any) -> Array:
        """The entropy of every row, in nats."""
        total = self.rows.by_row(name, sizes)
        for eta, mu in zip(jax.tree.leaves(natural), jax.tree.leaves(mean), strict=True):
            total = total - self.rows.by_row(name, jnp.where((eta == 0) | (mu == 0), 0.0, eta * mu))
        return total


def _chunk(rows: int, near: int) -> int:
    """A divisor of `rows` of about that size where there is one."""
    if rows <= near:
        return rows
    divisors = [n for n in range(max(1, near // 2), min(rows, 2 * near) + 1) if rows % n == 0]
    return min(divisors, key=lambda n: abs(n - near)) if divisors else near
