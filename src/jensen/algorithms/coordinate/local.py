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

CELLS = 1 << 17
"""Entries of the largest local block that are worked on at a time: they should stay in the processor's cache."""


class LocalStep:
    """Coordinate ascent over the local blocks of each row, to convergence, with the globals held.

    Blocks that depend on the globals only are set to their optimum at once. Otherwise rounds over the local blocks
    follow from a fixed start (discrete latents uniform), until one moves q by less than `tolerance` nats a row,
    measured by Σ ⟨Δη, ΔE[t]⟩ = KL(q ‖ q') + KL(q' ‖ q) over the carried blocks, or after `most` of them.
    """

    def __init__(self, parts: PlateSplit, tolerance: float, most: int):
        self.parts, self.tolerance, self.most = parts, tolerance, most
        width = sum(parts.width(name) for name in parts.local)
        self.chunk = _chunk(parts.size, max(1, CELLS // width))

    def factors(
        self, interface: Interface, arrays: Sequence[Array], start: Any, count: int
    ) -> dict[str, AbstractExponentialFactor]:
        """The optimal factors of `count` rows."""
        if not self.parts.carried:
            return self.parts.updated_rows(interface, arrays, start, count, {})

        def again(state: Any) -> Any:
            i, moments, naturals, _ = state
            factors = self.parts.updated_rows(interface, arrays, start, count, moments)
            new = {name: factors[name].mean_params() for name in self.parts.carried}
            new_naturals = {name: factors[name].natural for name in self.parts.carried}
            moved = jax.tree.map(lambda a, b, c, d: jnp.sum((a - b) * (c - d)), new_naturals, naturals, new, moments)
            return i + 1, new, new_naturals, sum(jax.tree.leaves(moved), start=jnp.zeros(()))

        def going(state: Any) -> Any:
            return (state[0] < self.most) & (state[3] > self.tolerance * count)

        moments, naturals = self._begun(interface, arrays, start, count)
        unsettled = jnp.full((), jnp.inf)
        moments = jax.lax.while_loop(going, again, (0, moments, naturals, unsettled))[1]
        return self.parts.updated_rows(interface, arrays, start, count, moments)

    def _begun(self, interface: Interface, arrays: Sequence[Array], start: Any, count: int) -> tuple[Moments, Naturals]:
        """The carried blocks, set in turn from uniform discrete latents and any values of the others."""
        moments, naturals, rng = {}, {}, np.random.default_rng(0)
        for name in self.parts.local:
            block = self.parts.model.blocks[name]
            if block.discrete:
                zero = {key: jnp.zeros((count, *size[1:])) for key, size in block.shapes.items()}
                moments[name] = self.parts.model.factor(name, zero).mean_params()
            else:
                shape = (count, *self.parts.model.sites[block.sites[0]].shape[1:])
                moments[name] = jax.tree.map(lambda a: jnp.asarray(a, float), block.start(rng, shape))

        def energy(own: Moments, rest: Moments) -> Any:
            return self.parts.rows_energy({**rest, **own}, interface, arrays, start, count)

        for name in self.parts.carried:
            naturals[name] = jax.grad(energy)({name: moments[name]}, moments)[name]
            moments[name] = self.parts.model.factor(name, naturals[name]).mean_params()
        return {name: moments[name] for name in self.parts.carried}, naturals

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
