"""The local step of streaming methods: the factors of some rows at their joint optimum, and what they tell globals."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._typing import Array
from jensen.families.exponential import AbstractExponentialFactor
from jensen.models.conjugacy import Moments
from jensen.models.conjugacy.plates import Interface, PlateSplit

CELLS = 1 << 17
"""Entries of the largest local block that are worked on at a time: they should stay in the processor's cache."""


class LocalStep:
    """Coordinate ascent over the local blocks of each row, to convergence, with the globals held.

    A single local block is set to its optimum at once. With several, those but the largest are carried: an iteration
    sets the largest from them and each of them in turn from the others. It stops when an iteration moves q by less
    than `tolerance` nats a row, measured by Σ ⟨Δη, ΔE[t]⟩ = KL(q ‖ q') + KL(q' ‖ q) over the carried blocks.
    """

    def __init__(self, parts: PlateSplit, tolerance: float, most: int):
        self.parts, self.tolerance, self.most = parts, tolerance, most
        sizes = {n: sum(int(np.prod(s)) for s in parts.model.blocks[n].shapes.values()) for n in parts.local}
        self.first = max(parts.local, key=lambda name: sizes[name])
        self.carried = tuple(name for name in parts.local if name != self.first)
        self.chunk = _chunk(parts.size, max(1, CELLS * parts.size // sizes[self.first]))

    def factors(
        self, interface: Interface, arrays: Sequence[Array], start: Any, count: int
    ) -> dict[str, AbstractExponentialFactor]:
        """The optimal factors of `count` rows."""
        if not self.carried:
            return self.parts.local_factors(interface, arrays, start, count)

        def optimal(name: str, moments: Moments) -> AbstractExponentialFactor:
            def energy(own: Any) -> Any:
                return self.parts.rows_energy({**moments, name: own}, interface, arrays, start, count)

            return self.parts.model.factor(name, jax.grad(energy)(moments[name]))

        def others(moments: Moments) -> tuple[Moments, dict[str, Any]]:
            naturals = {}
            for name in self.carried:
                factor = optimal(name, moments)
                moments, naturals[name] = {**moments, name: factor.mean_params()}, factor.natural
            return {name: moments[name] for name in self.carried}, naturals

        def again(carry: Any) -> Any:
            i, moments, naturals, _ = carry
            best = optimal(self.first, {**moments, self.first: blank[self.first]}).mean_params()
            new, new_naturals = others({**moments, self.first: best})
            moved = jax.tree.map(lambda a, b, c, d: jnp.sum((a - b) * (c - d)), new_naturals, naturals, new, moments)
            return i + 1, new, new_naturals, sum(jax.tree.leaves(moved))

        def going(carry: Any) -> Any:
            return (carry[0] < self.most) & (carry[3] > self.tolerance * count)

        blank = self._blank(count)
        moments, naturals = others(blank)
        _, moments, naturals, _ = jax.lax.while_loop(going, again, (0, moments, naturals, jnp.inf))
        found = {name: self.parts.model.factor(name, naturals[name]) for name in self.carried}
        return {**found, self.first: optimal(self.first, {**moments, self.first: blank[self.first]})}

    def _blank(self, count: int) -> Moments:
        """Where the rows begin: discrete latents uniform, the others as for any start."""
        result, rng = {}, np.random.default_rng(0)
        zero = self.parts.zero_local(count)
        for name in self.parts.local:
            block = self.parts.model.blocks[name]
            if block.discrete:
                result[name] = self.parts.model.factor(name, zero[name]).mean_params()
            else:
                shape = (count, *self.parts.model.sites[block.sites[0]].shape[1:])
                result[name] = jax.tree.map(lambda a: jnp.asarray(a, float), block.start(rng, shape))
        return result

    def statistics(self, interface: Interface, arrays: Sequence[Array], weights: Array) -> tuple[Interface, Any]:
        """(S, the rows' part of the bound), each row counted as often as its weight says."""

        def chunk(start: Any, count: int) -> tuple[Interface, Any]:
            factors = self.factors(interface, arrays, start, count)
            local = {name: factor.mean_params() for name, factor in factors.items()}
            own = jax.lax.dynamic_slice_in_dim(weights, start, count)
            energy, statistics = jax.value_and_grad(self.parts.rows_energy, argnums=1)(
                local, interface, arrays, start, count, own
            )
            return statistics, energy + sum(own @ _entropies(factors[name], local[name]) for name in factors)

        total: Any = (jax.tree.map(jnp.zeros_like, interface), jnp.zeros(()))
        whole, left = divmod(self.parts.size, self.chunk)
        if whole == 1 and not left:
            return chunk(0, self.chunk)
        total = jax.lax.fori_loop(
            0, whole, lambda i, total: jax.tree.map(jnp.add, total, chunk(i * self.chunk, self.chunk)), total
        )
        return jax.tree.map(jnp.add, total, chunk(whole * self.chunk, left)) if left else total


def _entropies(factor: AbstractExponentialFactor, moments: Any) -> Array:
    """The entropy of every row, in nats."""
    normalizer = factor.log_normalizer()
    total = jnp.sum(normalizer.reshape((normalizer.shape[0], -1)), 1)
    for natural, mean in zip(jax.tree.leaves(factor.natural), jax.tree.leaves(moments), strict=True):
        product = jnp.where((natural == 0) | (mean == 0), 0.0, natural * mean)
        total = total - jnp.sum(product.reshape((product.shape[0], -1)), 1)
    return total


def _chunk(rows: int, near: int) -> int:
    """A divisor of `rows` of about that size where there is one."""
    if rows <= near:
        return rows
    divisors = [n for n in range(max(1, near // 2), min(rows, 2 * near) + 1) if rows % n == 0]
    return min(divisors, key=lambda n: abs(n - near)) if divisors else near
