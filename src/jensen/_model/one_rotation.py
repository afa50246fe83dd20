"""Coordinates of a posterior that rotations leave as it is: one rotation of it, with the volume of all the others."""

import copy
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from jensen._base.typing import Array, Flat, Latent, Scalar, leaf
from jensen._math.precision import float_type
from jensen._model.target import Target
from jensen._program.bijection import AbstractChart, SiteBijection, on_the_line
from jensen._program.structure import Structure

Axes = tuple[tuple[str, int], ...]
"""Latents on the real line and the axis of each along which its states lie."""


class Turn(eqx.Module):
    """What turns together: W, the values of some latents with one row for each and one column for each state, (F, K).

    Where p(W) = p(W R) for every orthogonal R, it is enough to know p where Wᵣᵀ W is symmetric and positive definite,
    Wᵣ a reference: every W of full rank has one R that takes it there, that of the polar decomposition of Wᵣᵀ W
    (Schönemann 1966). These W are a convex piece of a linear space of FK - K (K - 1) / 2 dimensions. With W̃ in it and
    R = exp(A), dW = dW̃ + W̃ dA, so that p(W̃) |det Nᵀ (W̃ Eᵢⱼ)| vol O(K) has the integral of p over all W; N spans the
    normals Wᵣ Eᵢⱼ of the space, Eᵢⱼ the skew-symmetric matrices.

    Attributes:
        axes: of the latents. reference: Wᵣ. normals: N, (F, K, K (K - 1) / 2), orthonormal.
    """

    axes: Axes = eqx.field(static=True)
    reference: Array
    normals: Array

    def rows(self, latent: Mapping[str, Any]) -> Any:
        """W of one set of latents."""
        size = self.reference.shape[1]
        return jnp.concatenate([jnp.moveaxis(latent[name], axis, -1).reshape(-1, size) for name, axis in self.axes])

    def parts(self, structure: Structure) -> dict[str, np.ndarray]:
        """The reference as values of the latents."""
        left, out = np.asarray(self.reference, float), {}
        for name, axis in self.axes:
            shape = structure.sites[name].shape
            moved = (*np.delete(shape, axis), shape[axis])
            rows, left = np.split(left, [int(np.prod(moved[:-1], dtype=int))])
            out[name] = np.moveaxis(rows.reshape(moved), -1, axis)
        return out

    def turned(self, latent: Latent) -> Latent:
        """The latents with W in the position nearest to the reference."""
        u, _, vt = jnp.linalg.svd(self.reference.T @ self.rows(latent))
        out = dict(latent)
        for name, axis in self.axes:
            out[name] = jnp.moveaxis(jnp.moveaxis(latent[name], axis, -1) @ (vt.T @ u.T), -1, axis)
        return out

    def log_volume(self, latent: Latent) -> Scalar:
        """Log of what all rotations of W̃ take, each of both signs; -∞ where another W is nearer to the reference."""
        rows = self.rows(latent)
        size = rows.shape[1]
        moved = jnp.einsum("fk,pkl->pfl", rows, jnp.asarray(skew(size)))
        log_det: Array = jnp.linalg.slogdet(jnp.einsum("flq,pfl->qp", self.normals, moved))[1]
        product = jax.lax.stop_gradient(self.reference.T @ rows)
        nearest = jnp.linalg.eigvalsh(0.5 * (product + product.T))[0] > 0.0
        return jnp.where(nearest, log_det + log_orthogonal(size), -jnp.inf)


class Aligned(AbstractChart):
    """u ∈ R^d ↦ the latents of `inner` at E u, E orthonormal columns (D, d): those of each turn are in its space."""

    structure: Structure = eqx.field(static=True)
    bounds: dict[str, Any]
    inner: SiteBijection
    turns: tuple[Turn, ...]
    embedding: Array

    @property
    def dim(self) -> int:
        """d."""
        return self.embedding.shape[1]

    @property
    def whole(self) -> tuple[str, ...]:
        """Those that turn."""
        return tuple(name for turn in self.turns for name, _ in turn.axes)

    def _volume(self, latent: Latent) -> Scalar:
        return sum((turn.log_volume(latent) for turn in self.turns), start=jnp.zeros(()))

    def forward(self, point: Flat) -> tuple[Latent, Scalar]:
        """z, and log |det| with the volume of all rotations."""
        latent, log_det = self.inner.forward(self.embedding @ point)
        return latent, log_det + self._volume(latent)

    def inverse(self, latent: Latent) -> tuple[Flat, Scalar]:
        """u of the rotation nearest to the reference, and the same logarithm."""
        for turn in self.turns:
            latent = turn.turned(latent)
        point, log_det = self.inner.inverse(latent)
        return self.embedding.T @ point, log_det + self._volume(latent)

    def coordinate_names(self) -> list[str]:
        """Of coordinates that are those of a latent their own, of others the latents that turn."""
        names, known = self.structure.coordinate_names(), np.asarray(self.embedding)
        alone = np.abs(known).max(axis=0) == 1.0
        turning = ", ".join(self.whole)
        return [names[int(np.argmax(column))] if own else turning for own, column in zip(alone, known.T, strict=True)]


def skew(size: int) -> np.ndarray:
    """A basis of the skew-symmetric matrices: (K (K - 1) / 2, K, K), entries 0, 1 and -1."""
    pairs = list(itertools.combinations(range(size), 2))
    out = np.zeros((len(pairs), size, size))
    for number, (i, j) in enumerate(pairs):
        out[number, i, j], out[number, j, i] = 1.0, -1.0
    return out


def log_orthogonal(size: int) -> float:
    """Log of the volume of all orthogonal matrices, the Eᵢⱼ of unit length: 2 Π 2 π^(k/2) / Γ(k/2) over k = 2 ... K."""
    k = np.arange(2, size + 1)
    return float(np.log(2.0) + np.sum(np.log(2.0) + 0.5 * k * np.log(np.pi) - special.gammaln(0.5 * k)))


def aligned(
    target: Target, turning: Sequence[Axes], latent: Mapping[str, np.ndarray], embedding: np.ndarray | None = None
) -> Target | None:
    """The density of a target in the rotation nearest to some latents; `None` where what turns is not on the line.

    It has the integral of the whole. Evaluations go on counting. `embedding` is that of a fit whose coordinates these
    are to be; bases of a space are not unique.
    """
    chart = target.model.bijection
    if type(chart) is not SiteBijection or not turning:
        return None
    structure, kind = target.structure, float_type(target.precision)
    if not all(on_the_line(chart.bounds.get(n, structure.sites[n].support)) for axes in turning for n, _ in axes):
        return None
    turns, columns, left = [], [], np.ones(chart.dim, bool)
    for axes in turning:
        places = {name: structure.offsets[name] + np.arange(structure.sites[name].size) for name, _ in axes}
        index = [np.moveaxis(places[n].reshape(structure.sites[n].shape), a, -1) for n, a in axes]
        size = index[0].shape[-1]
        where = np.concatenate([one.reshape(-1, size) for one in index])
        reference = np.concatenate([np.moveaxis(latent[n], a, -1).reshape(-1, size) for n, a in axes])
        normals = np.einsum("fk,pkl->flp", reference, skew(size)).reshape(where.size, -1)
        if len(where) < size or np.linalg.matrix_rank(normals) < normals.shape[1]:
            return None
        basis = np.linalg.qr(normals, mode="complete")[0]
        placed = np.zeros((chart.dim, where.size - normals.shape[1]))
        placed[where.reshape(-1)] = basis[:, normals.shape[1] :]
        left[where.reshape(-1)] = False
        columns.append(placed)
        normals = basis[:, : normals.shape[1]].reshape(*where.shape, -1)
        turns.append(Turn(axes, leaf(reference.astype(kind)), leaf(normals.astype(kind))))
    embedding = np.concatenate([np.eye(chart.dim)[:, left], *columns], axis=1) if embedding is None else embedding
    found = copy.copy(target)
    inner = Aligned(structure, chart.bounds, chart, tuple(turns), leaf(embedding.astype(kind)))
    found.model = dataclasses.replace(target.model, bijection=inner)
    found.dim = inner.dim
    return found


def turns_of(target: Target) -> tuple[Turn, ...]:
    """What a target holds in one rotation; nothing, where its coordinates are others."""
    chart = target.model.bijection
    return chart.turns if isinstance(chart, Aligned) else ()


def saved_turns(target: Target) -> dict[str, np.ndarray]:
    """What a file keeps of the rotation that a target is held in; empty where it is in none."""
    saved = {}
    for number, turn in enumerate(turns_of(target)):
        for (name, axis), values in zip(turn.axes, turn.parts(target.structure).values(), strict=True):
            saved[f"turned/{number}/{axis}/{name}"] = values
        saved["embedding"] = np.asarray(target.model.bijection.embedding)  # type: ignore[attr-defined]
    return saved


def with_turns(target: Target, saved: Mapping[str, np.ndarray]) -> Target | None:
    """The target in the rotation that `saved_turns` has described, if any; `None` where it cannot be."""
    turning: dict[str, list[tuple[str, int]]] = {}
    references = {}
    for name, values in saved.items():
        if name.startswith("turned/"):
            _, number, axis, site = name.split("/", 3)
            turning.setdefault(number, []).append((site, int(axis)))
            references[site] = np.asarray(values, float)
    axes = [tuple(turning[number]) for number in sorted(turning, key=int)]
    return aligned(target, axes, references, np.asarray(saved["embedding"], float)) if axes else target
