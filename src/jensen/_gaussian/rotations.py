"""Densities that rotations leave as they are, loadings with their scores integrated out: fitted in one rotation."""

from collections.abc import Generator, Iterable, Mapping

import numpy as np

from jensen._core import Progress
from jensen._model import Target
from jensen._model.by_site import by_site
from jensen._model.one_rotation import aligned
from jensen._modes.climbs import climb
from jensen._modes.relabelling import anywhere, find_labellings, find_rotations, on_supports
from jensen._nested import NestedTarget
from jensen._program.bijection import on_the_line

CLOSE, PROBES = 0.1, 4
"""Spread, and number, of the points around a mode at which rotations are tried."""


def may_turn(density: Target, kept: Iterable[str], out: Iterable[str]) -> bool:
    """Whether a latent that stays and one that leaves, both real vectors, have an axis of the same length.

    What rotations leave as it is are products, of loadings and scores say, of which one leaves at most.
    """
    chart, sizes = density.model.bijection, []
    for names in (kept, out):
        sites = [density.structure.sites[name] for name in names]
        real = [s for s in sites if s.values is None and on_the_line(chart.bounds.get(s.name, s.support))]  # type: ignore[attr-defined]
        sizes.append({size for site in real for size in site.shape if size > 1})
    return bool(sizes[0] & sizes[1])


def in_one_rotation(
    target: Target, near: np.ndarray, latent: Mapping[str, np.ndarray], fresh: bool = False
) -> Target | None:
    """The density in the rotation nearest to some latents, which are those of `near`; `None` where none is known.

    A `fresh` target has not been asked for gradients.
    """
    points = near + CLOSE * np.random.default_rng(0).normal(size=(PROBES, target.dim))
    values = by_site(target, np.concatenate([anywhere(target.dim), points]))
    log_joint = on_supports(target.for_few_values() if fresh else target)
    found = find_labellings(log_joint, values, eps=target.eps)
    axes = [one.axes for one in find_rotations(log_joint, values, found, target.eps)]
    turned = aligned(target, axes, latent)  # type: ignore[arg-type]
    if turned is not None:
        # of random places most are nearer to another rotation
        turned.initial = turned.inverse({name: value[None] for name, value in latent.items()})[0][0]
    return turned


def turned(target: NestedTarget, seed: int) -> Generator[Progress, None, NestedTarget]:
    """The target itself, or in the rotation of its mode where rotations leave it as it is."""
    structure = target.structure
    names = [site.name for site in structure.latents], [site.name for site in structure.conditional]
    if not may_turn(target, *names):
        return target
    near = (yield from climb(target, seed, 1))[0].best[0]
    found = in_one_rotation(target, near, target.latent(near))
    return target if found is None else found  # type: ignore[return-value]
