"""The factors of some rows: a Gaussian over each row's unconstrained coordinates, native factors for its codes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._amortised.model import CodeSite, RowLayout
from jensen._base.typing import Array, PRNGKey
from jensen._families.native import AbstractFactor, native_factor

LOG_2PI = float(np.log(2.0 * np.pi))
STATES = 64
"""Joint states of a row's codes up to which each of them is looked at."""


@dataclass(frozen=True)
class Shape:
    """What an encoder has to say of each row, and in which order.

    Means of the continuous coordinates; their log sds (`full`: the log diagonal of the Cholesky factor L, then L's
    strict lower part row by row); then for each discrete latent the parameters of its factor, such as logits.
    """

    dim: int
    full: bool
    codes: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, layout: RowLayout, full: bool) -> "Shape":
        """The shape for a model's rows."""
        sizes = []
        for code in layout.codes:
            leaves = jax.tree.leaves(native_factor(code.site))
            rows = code.site.shape[code.axis]
            sizes.append((code.name, tuple(int(np.size(leaf)) // rows for leaf in leaves)))
        return cls(layout.dim, full, tuple(sizes))

    @property
    def spread(self) -> int:
        """Numbers that make up the Gaussian's spread."""
        return self.dim * (self.dim + 1) // 2 if self.full else self.dim

    @property
    def size(self) -> int:
        """Numbers for each row."""
        return self.dim + self.spread + sum(sum(sizes) for _, sizes in self.codes)

    def __str__(self) -> str:
        parts = []
        if self.dim:
            spread = "log diagonal and strict lower part of L" if self.full else "log sds"
            parts.append(f"{self.dim} means and {self.spread} for the {spread}")
        parts += [f"{sum(sizes)} for the codes '{name}'" for name, sizes in self.codes]
        return f"{self.size} numbers for each row: {', '.join(parts)}"


class RowFactors(eqx.Module):
    """q(z_n) of some rows: N(loc, LLᵀ) over unconstrained coordinates times a native factor for each code.

    Attributes:
        loc: (rows, dim). spread: log sds (rows, dim), or the packed factor (rows, dim (dim + 1) / 2).
        codes: site -> factor over all these rows. axes: site -> the axis of its rows.
    """

    loc: Array
    spread: Array
    codes: dict[str, AbstractFactor]
    axes: tuple[tuple[str, int], ...] = eqx.field(static=True)

    @classmethod
    def of(cls, layout: RowLayout, shape: Shape, raw: Array) -> "RowFactors":
        """From the encoder's numbers, (rows, size)."""
        rows, start = raw.shape[0], shape.dim + shape.spread
        codes = {}
        for code, (name, sizes) in zip(layout.codes, shape.codes, strict=True):
            codes[name], start = _code(code, sizes, raw, rows, start)
        axes = tuple((code.name, code.axis) for code in layout.codes)
        return cls(raw[:, : shape.dim], raw[:, shape.dim : shape.dim + shape.spread], codes, axes)

    @property
    def full(self) -> bool:
        """Whether the covariance of a row is full."""
        return self.spread.shape[-1] != self.loc.shape[-1]

    def factor(self) -> Array:
        """L, (rows, dim, dim)."""
        rows, dim = self.loc.shape
        if not self.full:
            return jax.vmap(jnp.diag)(jnp.exp(self.spread))
        below = jnp.zeros((rows, dim, dim), self.loc.dtype).at[(slice(None), *np.tril_indices(dim, -1))]
        return below.set(self.spread[:, dim:]) + jax.vmap(jnp.diag)(jnp.exp(self.spread[:, :dim]))

    def transform(self, noise: Array) -> Array:
        """Loc + L ε for one ε of each row."""
        if not self.full:
            return self.loc + jnp.exp(self.spread) * noise
        return self.loc + jnp.einsum("nij,nj->ni", self.factor(), noise)

    def log_prob(self, point: Array) -> Array:
        """log q of each row's continuous coordinates, (rows,), in nats."""
        dim, centred = self.loc.shape[-1], point - self.loc
        if self.full and dim:
            white = jax.scipy.linalg.solve_triangular(self.factor(), centred[..., None], lower=True)[..., 0]
        else:
            white = centred * jnp.exp(-self.spread)
        return -0.5 * jnp.sum(white**2, -1) - 0.5 * dim * LOG_2PI - jnp.sum(self.spread[:, :dim], -1)

    def sds(self) -> Array:
        """Of the unconstrained coordinates, (rows, dim)."""
        return jnp.exp(self.spread) if not self.full else jnp.sqrt(jnp.sum(self.factor() ** 2, -1))

    def draw_codes(self, key: PRNGKey) -> dict[str, Array]:
        """A value of every code."""
        keys = jax.random.split(key, len(self.codes) + 1)
        return {name: factor.sample(k) for (name, factor), k in zip(self.codes.items(), keys, strict=False)}

    def codes_log_prob(self, values: dict[str, Array]) -> Array:
        """log q of the codes of each row, (rows,), in nats."""
        rows, out = self.loc.shape[0], jnp.zeros(self.loc.shape[0], self.loc.dtype)
        for name, axis in self.axes:
            own = jnp.moveaxis(self.codes[name].log_prob(values[name]), axis, 0)
            out = out + jnp.sum(own.reshape(rows, -1), axis=1)
        return out


def _code(code: CodeSite, sizes: tuple[int, ...], raw: Array, rows: int, start: int) -> tuple[AbstractFactor, int]:
    leaves, tree = jax.tree.flatten(native_factor(code.site))
    found = []
    for leaf, size in zip(leaves, sizes, strict=True):
        rest = tuple(n for i, n in enumerate(np.shape(leaf)) if i != code.axis)
        found.append(jnp.moveaxis(raw[:, start : start + size].reshape(rows, *rest), 0, code.axis))
        start += size
    return jax.tree.unflatten(tree, found), start


def joint_states(layout: RowLayout) -> dict[str, np.ndarray] | None:
    """Every joint state of a row's codes, site -> (states, *shape of the site); `None` where they are too many."""
    supports, sizes = [], []
    for code in layout.codes:
        with jax.ensure_compile_time_eval():  # it may be asked for while tracing
            support = native_factor(code.site).support()
        if support is None:
            return None
        entries = int(np.prod(code.site.shape, dtype=int)) // code.site.shape[code.axis]
        supports += [(code, np.asarray(support))] * entries
        sizes += [len(np.asarray(support))] * entries
    if not sizes or float(np.prod(np.asarray(sizes, float))) > STATES:
        return None
    index = np.stack(np.unravel_index(np.arange(int(np.prod(sizes))), sizes), axis=1)
    return dict(_states(layout, supports, index))


def _states(layout: RowLayout, supports: list[Any], index: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    column = 0
    for code in layout.codes:
        rest = tuple(n for i, n in enumerate(code.site.shape) if i != code.axis)
        entries = int(np.prod(rest, dtype=int))
        support = supports[column][1]
        values = support[index[:, column : column + entries]].reshape(len(index), 1, *rest)
        column += entries
        rows = np.moveaxis(np.broadcast_to(values, (len(index), code.site.shape[code.axis], *rest)), 1, code.axis + 1)
        yield code.name, np.ascontiguousarray(rows)
