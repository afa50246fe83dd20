"""Discrete latents of the rows at their optimum: log normalisers of potentials that come in factors.

The optimal factor of a discrete latent z, given all else, has the potentials a_k = Σ over terms; what z adds to the
bound is A = w log Σ_k exp(a_k / w), with w the number of its exchangeable copies. Terms that hold carried blocks change
from round to round and often lack some of the axes of z (the topics of a document are the same for all its words), so
the sum is taken as Σ_k exp(fixed_k) · exp(moving_k): one contraction a round, and exponentials of small arrays only.
The message of z to other blocks, and its statistics, are the derivatives of A (Danskin's theorem).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Scalar
from jensen._conjugate.algebra.arrays import contract, same_array
from jensen._conjugate.algebra.blocks import Block
from jensen._conjugate.algebra.energy import Slot
from jensen._conjugate.algebra.model import Moments
from jensen._conjugate.algebra.plates import Group, PlateSplit
from jensen._conjugate.algebra.rows import Chunk, Rows, aligned, maps_of
from jensen._conjugate.algebra.terms import Axis, Gather, Known


@dataclass(frozen=True, eq=False)
class Share:
    """A group of terms that hold one discrete latent, less the weight: its arrays and where they stand on z's axes.

    `loose` is the group's number among the rows' parameters.
    """

    group: Group
    loose: int
    known: tuple[Known, ...]
    axes: tuple[Axis, ...]
    others: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Weight:
    """w: the group of the entropy."""

    group: Group
    loose: int
    axes: tuple[Axis, ...]


@dataclass(frozen=True, eq=False)
class Summed:
    """A discrete block that is summed out."""

    block: Block
    fixed: tuple[Share, ...]
    moving: tuple[Share, ...]
    weight: Weight | None


class Potentials:
    """The rows of a split whose transient blocks are discrete, those summed out.

    Attributes:
        rest: numbers of the loose groups that hold carried blocks only.
    """

    rows: Rows
    summed: tuple[Summed, ...]
    rest: tuple[int, ...]

    def __init__(self, rows: Rows, summed: Sequence[Summed], rest: Sequence[int]):
        self.rows, self.summed, self.rest = rows, tuple(summed), tuple(rest)

    def prepared(self, parameters: Any, features: list[Array], chunk: Chunk) -> list[Any]:
        """What does not depend on the carried blocks, for each latent: (exp(fixed - top), top, w)."""
        found, loose = [], parameters[1]
        packed = self.rows.packed([latent.block.name for latent in self.summed], parameters, features, chunk)
        for latent in self.summed:
            fixed = self._potential(latent, latent.fixed, loose, chunk, {})
            fixed = sum(packed[latent.block.name].values(), fixed)
            states = latent.block.shapes["indicator"]
            fixed = jnp.broadcast_to(fixed, (chunk.count, *states[1:]))
            found.append((*_scaled(fixed), self._weight(latent, loose, chunk)))
        return found

    def energy(
        self,
        carried: Moments,
        loose: tuple[Array, ...],
        prepared: list[Any],
        chunk: Chunk,
        weights: Array | None = None,
        level: bool = False,
    ) -> tuple[Scalar, Scalar]:
        """(Σ over rows of the expected log joint and A, in nats; the least Σ_k): linear in neither.

        With `level` the carried blocks say nothing to the latents: their derivatives are those of a first round.
        """
        total = self.rows.loose_energy(carried, loose, chunk, weights, self.rest)
        least = jnp.full((), jnp.inf, total.dtype)
        for latent, (table, top, copies) in zip(self.summed, prepared, strict=True):
            moving = jnp.asarray(self._potential(latent, latent.moving, loose, chunk, carried), table.dtype)
            moving = moving.reshape((1,) * (table.ndim - moving.ndim) + moving.shape)
            if level:
                moving = moving - jax.lax.stop_gradient(moving)
            change, high = _scaled(moving)
            sums = _summed_states(table, change)
            least = jnp.minimum(least, jnp.min(sums))
            value = copies * (jnp.log(jnp.where(sums > 0, sums, 1.0)) + (top + high)[..., 0])
            if weights is not None:
                value = value * weights.reshape((-1, *(1,) * (value.ndim - 1)))
            total = total + jnp.sum(jnp.broadcast_to(value, table.shape[:-1]))
        return total, least

    def _weight(self, latent: Summed, loose: tuple[Array, ...], chunk: Chunk) -> Array:
        if latent.weight is None:
            return jnp.ones((), self.rows.kind(chunk.arrays))
        share, axes = latent.weight, latent.weight.axes
        operands = [chunk.rows(k.array, k.maps, share.group.row_axis) for k in share.group.known]
        labels = [k.maps for k in share.group.known]
        held = tuple(axis for axis in axes if any(axis in maps for maps in labels))
        product = contract(operands, labels, held) if operands else jnp.ones(())
        return aligned(jax.lax.stop_gradient(loose[share.loose]) * product, held, axes)

    def _potential(
        self, latent: Summed, shares: Sequence[Share], loose: tuple[Array, ...], chunk: Chunk, carried: Moments
    ) -> Array:
        """What these groups add to a / w."""
        total = sum((self._share(share, loose, chunk, carried) for share in shares), jnp.zeros(()))
        return total if latent.weight is None else total / jax.lax.stop_gradient(loose[latent.weight.loose])

    def _share(self, share: Share, loose: tuple[Array, ...], chunk: Chunk, carried: Moments) -> Array:
        """What the group adds to a, its copies left out, on z's axes, of length 1 where it lacks one."""
        group = share.group
        operands: list[Array] = [chunk.rows(k.array, k.maps, group.row_axis) for k in share.known]
        labels: list[tuple[Axis, ...]] = [k.maps for k in share.known]
        whole = loose[share.loose]
        if group.looked_up is not None:
            whole, axes = chunk.taken(whole, (*maps_of(group.looked_up), *group.shared), group.row_axis)
            operands.append(whole)
            labels.append(axes)
        else:
            operands.append(whole)
            labels.append(group.shared)
        for block, atoms in share.others:
            array, maps = block.find(carried[block.name], atoms)
            array, axes = chunk.taken(array, maps, group.row_axis)
            operands.append(array)
            labels.append(axes)
        held = tuple(axis for axis in share.axes if any(axis in axes for axes in labels))
        return aligned(contract(operands, labels, held), held, share.axes)


def _scaled(potential: Array) -> tuple[Array, Array]:
    """(exp(a - top), top), with the top over the states."""
    top = jax.lax.stop_gradient(jnp.max(potential, -1, keepdims=True))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    return jnp.exp(potential - top), top


def _summed_states(table: Array, change: Array) -> Array:
    """Σ_k table_k · change_k, the second of length 1 along axes that it lacks."""
    names = list(range(table.ndim))
    kept = [i for i in names if change.shape[i] == table.shape[i]]
    change = change.reshape([change.shape[i] for i in kept])
    return jnp.einsum(table, names, change, kept, names[:-1])


def potentials(rows: Rows) -> Potentials | None:
    """The rows with their discrete latents summed out; `None` where some term does not allow it."""
    parts = rows.parts
    blocks = parts.model.blocks
    latents = {name: _Found() for name in parts.transient}
    if not latents or not parts.carried or any(not blocks[n].potentials for n in latents):
        return None
    if any(pack.block.name in latents and "copies" in pack.block.shapes for pack in rows.packs):
        return None
    rest = []
    for number, place in enumerate(rows.loose):
        group = parts.groups[place]
        own = [item for item in group.local if item[0].name in latents]
        if not own:
            rest.append(number)
        elif group.pair is not None or len(own[0][1]) != 1 or not latents[own[0][0].name].add(group, number, own[0]):
            return None
    if any(name in rows.last for name in latents):
        return None
    summed = [found.closed(blocks[name], parts) for name, found in latents.items()]
    return None if any(s is None for s in summed) else Potentials(rows, summed, rest)  # type: ignore[arg-type]


class _Found:
    """The groups of one latent, as they are read."""

    def __init__(self) -> None:
        self.shares: list[tuple[Group, int, tuple[Axis, ...]]] = []
        self.weight: Weight | None = None

    def add(self, group: Group, number: int, own: Any) -> bool:
        block, atoms = own
        marks = {key: np.broadcast_to(0.0, shape) for key, shape in block.shapes.items()}
        array, maps = block.find(marks, atoms)
        if any(isinstance(m, Gather) for m in maps) or len(set(maps)) != len(maps) or maps[0] is not group.row_axis:
            return False
        if array is marks.get("copies"):
            if self.weight is not None or group.looked_up is not None or group.shared or len(group.local) != 1:
                return False
            self.weight = Weight(group, number, tuple(maps))
            return all(set(k.maps) <= set(maps) for k in group.known)
        self.shares.append((group, number, tuple(maps)))
        return True

    def closed(self, block: Block, parts: PlateSplit) -> Summed | None:
        """The latent with w divided out of its potentials; `None` where w is not a factor of each."""
        if ("copies" in block.shapes) != (self.weight is not None):
            return None
        fixed, moving = [], []
        for group, number, axes in self.shares:
            known = list(group.known)
            for factor in self.weight.group.known if self.weight is not None else ():
                places = [self.weight.axes.index(axis) for axis in factor.maps]  # type: ignore[union-attr]
                same = (k for k in known if _equal(k, factor) and list(k.maps) == [axes[i] for i in places])
                match = next(same, None)
                if match is None:
                    return None
                known = [k for k in known if k is not match]
            others = tuple(item for item in group.local if item[0] is not block)
            (moving if others else fixed).append(Share(group, number, tuple(known), axes, others))
        return Summed(block, tuple(fixed), tuple(moving), self.weight)


def _equal(left: Known, right: Known) -> bool:
    if isinstance(left.array, Slot) or isinstance(right.array, Slot):
        return isinstance(left.array, Slot) and isinstance(right.array, Slot) and left.array == right.array
    return same_array(left.array, right.array)
