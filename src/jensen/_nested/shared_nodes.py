"""Rows that are alike, told once for all groups at nodes that these share.

Where many rows are the same function of θ and of their group's latent (an answer to an item is right or wrong, whoever
gives it), log p(rows of g | z, θ) = Σ_u N_gu ℓ_u(z, θ), N_gu being how many rows of kind u the group has. At nodes that
all groups share that is a product of matrices (Bock and Aitkin 1981), and only ℓ is asked of the program: at once, with
groups at different nodes, so that all together show every kind at every node. Nodes are equally spaced: the error of
that sum falls like exp(-2π² (sd / step)²) for a Gaussian integrand (Trefethen and Weideman 2014).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, leaf
from jensen._nested.layout import Layout

FEWER, LARGEST = 16, 8_000_000
"""Rows for each kind, at least, and numbers in the table of counts, at most."""
PER_SD, REACH, MOST_NODES, MOST = 1.0, 6.0, 96, 4
"""Nodes for each sd of the narrowest group, sd beyond the modes, nodes at most, evaluations of the program at most."""
PROBES, DIGITS, FLOOR = 3, 30, 1e-100
"""Places at which rows are compared, bits that agree in rows that are alike, and the smallest number that has any."""
LOWEST = -1e100
"""In the place of the logarithm of zero, of which there may be no rows."""


@dataclass(frozen=True)
class Kinds:
    """Of rows that see a group: (R,) kinds and groups, -1 for rows that see none; (G, U) how many there are of each."""

    kind: np.ndarray
    owner: np.ndarray
    counts: np.ndarray


class Alike(eqx.Module):
    """What tells the integrals of all groups from a few evaluations of the program.

    Attributes:
        nodes: (M,). counts: (G, U). places: (E, G), the node at which each group is in each evaluation.
        picks: (U, M), where among the rows of all evaluations a kind at a node is.
    """

    nodes: Array
    counts: Array
    places: Array
    picks: Array

    def log_integrals(
        self, rows: Callable[[Array], dict[str, Array]], layout: Layout, stretch: Array
    ) -> tuple[Array, Array]:
        """(log integral of every group (G,), the sum of rows that see none), in nats."""
        middle = jnp.mean(self.nodes)
        nodes = middle + stretch * (self.nodes - middle)

        def evaluated(place: Array) -> tuple[Array, Array]:
            found = rows(nodes[place][:, None])
            return joined(found, layout), layout.by_group(found)[1]

        flat, rest = jax.vmap(evaluated)(self.places)
        logs = jnp.maximum(flat.reshape(-1)[self.picks], LOWEST)
        return jax.nn.logsumexp(self.counts @ logs, axis=1) + jnp.log(nodes[1] - nodes[0]), rest[0]


def joined(rows: dict[str, Array], layout: Layout) -> Array:
    """All rows of sites that see groups, one after the other."""
    names = sorted(name for name, own in layout.owners.items() if own.how != "alone")
    return jnp.concatenate([jnp.ravel(rows[name]) for name in names])


def found_kinds(probed: np.ndarray, layout: Layout, sizes: dict[str, int]) -> Kinds | None:
    """Which of the rows are alike, by what `probed` (R, columns) says of each; `None` where they are too few.

    `sizes` are the numbers of rows by site. Rows that differ by rounding count as two kinds, which is no error.
    """
    owner = np.concatenate([layout.owners[name].each(sizes[name]) for name in sorted(sizes)])
    known = owner < layout.groups
    mantissa, exponent = np.frexp(np.where(np.abs(probed) < FLOOR, 0.0, probed))
    words = np.concatenate([np.rint(np.ldexp(mantissa, DIGITS)), exponent], axis=1).astype(np.int64)[known]
    words = np.ascontiguousarray(words).view([("", words.dtype)] * words.shape[1])[:, 0]
    _, own = np.unique(words, return_inverse=True)
    count = int(own.max()) + 1
    if count * FEWER > len(own) or count * layout.groups > LARGEST or not np.isfinite(probed).all():
        return None
    kind = np.full(len(owner), -1)
    kind[known] = own
    flat = np.bincount(owner[known] * count + own, minlength=layout.groups * count)
    return Kinds(kind, np.where(known, owner, -1), flat.reshape(layout.groups, count).astype(float))


def nodes_over(modes: np.ndarray, scales: np.ndarray) -> np.ndarray | None:
    """Nodes for groups with these modes and sds, (G,) each; `None` where they would be too many."""
    low, high = float((modes - REACH * scales).min()), float((modes + REACH * scales).max())
    count = np.ceil((high - low) * PER_SD / scales.min()) + 1
    return np.linspace(low, high, int(count)) if count <= MOST_NODES else None


def placed(kinds: Kinds, nodes: np.ndarray, dtype: Any) -> Alike | None:
    """Every group at a node, so that all kinds are seen at all nodes; `None` where that takes too many evaluations.

    Groups with kinds that are rare choose first, and each takes the node where most is still to be seen.
    """
    (groups, count), size = kinds.counts.shape, len(kinds.kind)
    rows = np.flatnonzero(kinds.kind >= 0)
    _, first = np.unique(kinds.owner[rows] * count + kinds.kind[rows], return_index=True)
    rows = rows[first]  # one of each kind in each group, group after group
    bounds = np.searchsorted(kinds.owner[rows], np.arange(groups + 1))
    rarity = 1.0 / (kinds.counts > 0).sum(axis=0)
    order = np.argsort(-(rarity * (kinds.counts > 0)).max(axis=1), kind="stable")
    needed, picks = np.ones((count, len(nodes)), bool), np.zeros((count, len(nodes)), np.int32)
    places = np.zeros((MOST, groups), np.int32)
    for number in range(MOST):
        for group in order:
            own = rows[bounds[group] : bounds[group + 1]]
            kind = kinds.kind[own]
            place = int(np.argmax(rarity[kind] @ needed[kind]))
            places[number, group] = place
            new = needed[kind, place]
            picks[kind[new], place] = number * size + own[new]
            needed[kind, place] = False
        if not needed.any():
            counts, told = kinds.counts.astype(dtype), nodes.astype(dtype)
            return Alike(leaf(told), leaf(counts), leaf(places[: number + 1]), leaf(picks))
    return None
