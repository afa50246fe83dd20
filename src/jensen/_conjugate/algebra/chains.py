"""Sites that are chains: every term holds one step of the site, or two that follow each other."""

from collections.abc import Sequence

import numpy as np

from jensen._base.typing import Array
from jensen._conjugate.algebra.arrays import is_concrete
from jensen._conjugate.algebra.blocks import INDICATOR, LINEAR, Block, HostNatural, signature
from jensen._conjugate.algebra.terms import Atom, Gather, Map, same_map, same_maps
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._families.exponential import DiscreteChain, GaussianChain, Natural


def distance(left: Map, right: Map) -> int | None:
    """How many steps `left` is ahead of `right` along one axis; `None` where that varies or is not known."""
    if not isinstance(left, Gather) or not isinstance(right, Gather) or left.axes != right.axes:
        return None
    if left.offset is not None and right.offset is not None:
        return left.offset - right.offset
    if not left.axes and is_concrete(left.index) and is_concrete(right.index):
        return int(left.index) - int(right.index)
    return None


def chain_axes(pairs: Sequence[tuple[Atom, Atom]]) -> tuple[int, ...] | None:
    """(time axis, state axes) where the coupled entries of a Gaussian site are steps that follow each other."""
    time, state = set(), set()
    for left, right in pairs:
        for i, (a, b) in enumerate(zip(left.maps, right.maps, strict=True)):
            if not same_map(a, b):
                (time if distance(a, b) in (1, -1) else state).add(i)
    if len(time) != 1 or time & state:
        return None
    return (*time, *sorted(state))


def gaussian_chain(site: SiteInfo, axes: tuple[int, ...]) -> Block:
    """The block of a Gaussian chain along `axes` (time, then the axes of the state)."""
    time, *state = axes
    rest = [i for i in range(len(site.shape)) if i not in axes]
    event = tuple(site.shape[i] for i in state)
    lead = tuple(site.shape[i] for i in rest)
    steps = site.shape[time]
    shapes = {
        "z": site.shape,
        "zz": (*lead, steps, *event, *event),
        "cross": (*lead, steps - 1, *event, *event),
    }

    def factor(natural: Natural) -> GaussianChain:
        return GaussianChain(natural, axes)

    def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
        if signature(atoms) == LINEAR:
            return moments["z"], atoms[0].maps
        left, right = atoms[0].maps, atoms[-1].maps
        ahead = 0 if same_map(left[time], right[time]) else distance(left[time], right[time])
        if ahead == 1:
            left, right = right, left
        found = moments["cross" if ahead else "zz"]
        return found, (*(left[i] for i in rest), left[time], *(left[i] for i in state), *(right[i] for i in state))

    def at(value: np.ndarray) -> HostNatural:
        moved = np.transpose(value, [*rest, time, *state])
        flat = moved.reshape((*moved.shape[: len(rest) + 1], -1))
        second = flat[..., :, None] * flat[..., None, :]
        cross = flat[..., :-1, :, None] * flat[..., 1:, None, :]
        return {
            "z": value,
            "zz": second.reshape((*second.shape[:-2], *event, *event)),
            "cross": cross.reshape((*cross.shape[:-2], *event, *event)),
        }

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return at(0.1 * rng.normal(size=shape))

    def nearby(rng: np.random.Generator, moments: HostNatural) -> HostNatural:
        size = int(np.prod(event, dtype=int))
        second = moments["zz"].reshape((*lead, steps, size, size))
        square = np.diagonal(second, axis1=-2, axis2=-1).reshape((*lead, steps, *event))
        square = np.transpose(square, np.argsort([*rest, time, *state]))
        sd = np.sqrt(np.maximum(square - moments["z"] ** 2, 0.0))
        return at(moments["z"] + sd * rng.normal(size=sd.shape))

    plates = tuple(p.name for p in site.plates)
    return Block(site.name, (site.name,), factor, find, shapes, start, at, nearby, plates=plates)


def is_discrete_pair(atoms: Sequence[Atom]) -> bool:
    """Whether the term holds two values of a discrete site, one step apart and alike in every plate."""
    if signature(atoms) != INDICATOR * 2:
        return False
    left, right = (a.maps[1:] for a in atoms)
    return distance(left[0], right[0]) in (1, -1) and same_maps(left[1:], right[1:])


def discrete_chain(site: SiteInfo) -> Block:
    """The block of a discrete site whose first axis is time."""
    values = site.values
    assert values is not None
    size = len(values)
    shapes = {"indicator": (*site.shape, size), "pair": (site.shape[0] - 1, *site.shape[1:], size, size)}

    def factor(natural: Natural) -> DiscreteChain:
        return DiscreteChain(natural, values)

    def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
        if signature(atoms) == INDICATOR:
            label, *plates = atoms[0].maps
            return moments["indicator"], (*plates, label)
        earlier, later = atoms
        if distance(earlier.maps[1], later.maps[1]) == 1:
            earlier, later = later, earlier
        return moments["pair"], (*earlier.maps[1:], earlier.maps[0], later.maps[0])

    def paired(probs: np.ndarray) -> HostNatural:
        return {"indicator": probs, "pair": probs[:-1, ..., :, None] * probs[1:, ..., None, :]}

    def at(value: np.ndarray) -> HostNatural:
        return paired((value[..., None] == values) * 1.0)

    def start(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
        return paired(rng.dirichlet(np.ones(size), shape))

    def nearby(rng: np.random.Generator, moments: HostNatural) -> HostNatural:
        logs = np.log(np.maximum(np.asarray(moments["indicator"], float), 1e-300))
        return at(values[np.argmax(logs + rng.gumbel(size=logs.shape), -1)])

    plates = tuple(p.name for p in site.plates)
    return Block(
        site.name,
        (site.name,),
        factor,
        find,
        shapes,
        start,
        at,
        nearby,
        discrete=True,
        plates=plates,
        independent=paired,
    )
