"""Blocks: which latents share a factor, and where the expectation of a product of atoms is found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array
from jensen._conjugate.algebra.terms import Atom, Map, Stat
from jensen._families.exponential import AbstractExponentialFactor, AtMode, Natural

HostNatural: TypeAlias = dict[str, np.ndarray]
"""Statistic name -> array on the host: starting points are drawn in NumPy, which compiles nothing."""
Signature: TypeAlias = tuple[Stat, ...]
"""The statistics of one site in one term, sorted."""

LINEAR, SQUARE, PAIR = (Stat("power", 1.0),), (Stat("power", 2.0),), (Stat("power", 1.0), Stat("power", 1.0))
LOG, LOGDET = (Stat("log"),), (Stat("logdet"),)
INDICATOR, ENTROPY = (Stat("indicator"),), (Stat("entropy"),)
MAX_COUPLED = 4000


@dataclass(frozen=True, eq=False)
class Block:
    """One factor of q.

    Attributes:
        name: the block's name; sites: its sites in the factor's order.
        factor: natural parameters -> factor.
        find: (moments, atoms of one term) -> (array of the expectation of their product, one map per axis).
        shapes: statistic name -> shape of its mean parameter.
        start: (random generator, shape of the site's value) -> moments to begin with.
        at: values of the sites -> moments of a q concentrated at them.
        nearby: (random generator, moments) -> moments of a q concentrated at a draw; `None` where a push would break
            no symmetry.
        rows_last: natural parameters whose independent rows are on the last axis -> factor; `None` where there is none.
        potentials: whether the factor is softmax of potentials, `indicator`, over the last axis (divided by the number
            `copies` where that is among the statistics).
        point: whether the factor is concentrated at its mode.
        independent: probabilities of every entry's values -> moments of independent entries; `None` where the block is
            not discrete.
    """

    name: str
    sites: tuple[str, ...]
    factor: Callable[[Natural], AbstractExponentialFactor]
    find: Callable[[Natural, Sequence[Atom]], tuple[Array, tuple[Map, ...]]]
    shapes: dict[str, tuple[int, ...]]
    start: Callable[[np.random.Generator, tuple[int, ...]], HostNatural]
    at: Callable[..., HostNatural]
    nearby: Callable[[np.random.Generator, HostNatural], HostNatural] | None = None
    discrete: bool = False
    plates: tuple[str, ...] = field(default=())
    rows_last: Callable[[Natural], AbstractExponentialFactor] | None = None
    potentials: bool = False
    point: bool = False
    independent: Callable[[np.ndarray], HostNatural] | None = None

    def zeros(self) -> Natural:
        """Natural parameters of zero."""
        return {name: jnp.zeros(shape) for name, shape in self.shapes.items()}


def pointed(block: Block) -> Block:
    """The block of a learned parameter: its factor concentrated at its mode; a location can be pushed."""

    def nearby(rng: np.random.Generator, moments: HostNatural) -> HostNatural:
        z = np.asarray(moments["z"], float)
        spread = max(float(z.std()), 0.1 * float(np.abs(z).max(initial=0.0)), 0.1)
        return block.at(z + spread * rng.normal(size=z.shape))

    push = nearby if "z" in block.shapes else None
    at_mode = lambda natural: AtMode(block.factor(natural))  # noqa: E731
    return replace(block, factor=at_mode, nearby=push, point=True, potentials=False)


def signature(atoms: Sequence[Atom]) -> Signature:
    """The statistics of these atoms, sorted."""
    return tuple(sorted(a.stat for a in atoms))
