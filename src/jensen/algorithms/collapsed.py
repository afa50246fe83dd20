"""Where coordinate ascent leaves dependence: the density of few latents, others integrated out, of one rotation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jensen._errors import OptionError
from jensen.algorithms.coordinate.collapse import Collapse, collapses
from jensen.algorithms.coordinate.density import CollapsedModel, collapsed_density
from jensen.algorithms.from_factors import point_near
from jensen.algorithms.relabel import anywhere, find_labellings, find_rotations, on_supports
from jensen.core import Outcome
from jensen.models import Target
from jensen.models.aligned import aligned, turns_of
from jensen.models.bijection import on_the_line
from jensen.models.by_site import by_site
from jensen.models.conjugacy import conjugate_target

CLOSE, PROBES = 0.1, 4
"""Spread, and number, of the points around the factors' means at which rotations are tried."""


def collapsed(density: Target, factors: Outcome, most: int) -> tuple[Target, np.ndarray] | None:
    """(the density of the latents that are left, the factors' means there): `None` where it is no gain.

    A gain is a density of at most `most` coordinates in place of more, or one whose rotations are known: then it is
    that of the rotation nearest to the factors' means.
    """
    plan = _plan(density, factors)
    if plan is None or not (density.dim > most or _may_turn(density, plan)):
        return None
    target = collapsed_density(density, plan)
    if target is None or not 0 < target.dim <= most or target.dear:
        return None
    near = point_near(target, factors)
    if near is None:
        return None
    if _may_turn(density, plan):
        points = near + CLOSE * np.random.default_rng(0).normal(size=(PROBES, target.dim))
        values = by_site(target, np.concatenate([anywhere(target.dim), points]))
        log_joint = on_supports(target)
        found = find_labellings(log_joint, values, eps=target.eps)
        axes = [one.axes for one in find_rotations(log_joint, values, found, target.eps)]
        turned = aligned(target, axes, target.latent(near))  # type: ignore[arg-type]
        if turned is not None:
            latent = {name: value[None] for name, value in target.latent(near).items()}
            turned.initial = turned.inverse(latent)[0][0]  # of random places most are nearer to another rotation
            return turned, turned.initial
    return (target, near) if density.dim > most else None


def _plan(density: Target, factors: Outcome) -> Collapse | None:
    """The exact one that leaves the fewest coordinates, all of them continuous; `None` if there is none."""
    sites, model = density.structure.sites, factors.q.target.model

    def left(plan: Collapse) -> int:
        return sum(sites[site].size for name in plan.kept for site in model.blocks[name].sites)

    plans = [way.plan for way in factors.q.weighables()]
    fine = [p for p in plans if p.exact and p.kept and not any(model.blocks[name].discrete for name in p.kept)]
    return min(fine, key=left, default=None)


def _may_turn(density: Target, plan: Collapse) -> bool:
    """Whether a latent that stays and one that leaves, both real vectors, have an axis of the same length.

    What rotations leave as it is are products, of loadings and factors say, of which one leaves at most.
    """
    chart = density.model.bijection
    sizes = []
    for names in (plan.kept, plan.out):
        sites = [density.structure.sites[site] for name in names for site in plan.model.blocks[name].sites]
        real = [s for s in sites if s.values is None and on_the_line(chart.bounds.get(s.name, s.support))]  # type: ignore[attr-defined]
        sizes.append({size for site in real for size in site.shape if size > 1})
    return bool(sizes[0] & sizes[1])


def chart(target: Target) -> dict[str, np.ndarray]:
    """What a file keeps to find such a density again from the program; empty where it is another."""
    if not isinstance(target.model, CollapsedModel):
        return {}
    saved = {f"left/{site.name}": np.zeros(0) for site in target.structure.conditional}
    for number, turn in enumerate(turns_of(target)):
        for (name, axis), values in zip(turn.axes, turn.parts(target.structure).values(), strict=True):
            saved[f"turned/{number}/{axis}/{name}"] = values
        saved["embedding"] = np.asarray(target.model.bijection.embedding)  # type: ignore[attr-defined]
    return saved


def on_chart(density: Target, saved: Mapping[str, np.ndarray]) -> Target:
    """The density that `chart` has described, from that of all latents."""
    left = {name.removeprefix("left/") for name in saved if name.startswith("left/")}
    program: Any = density.program
    model = conjugate_target(program.fn, program.kwargs, precision=density.precision).model
    plans = [p for p in collapses(model, None) if {s for n in p.out for s in model.blocks[n].sites} == left]
    target = collapsed_density(density, plans[0]) if plans else None
    turning: dict[str, list[tuple[str, int]]] = {}
    references = {}
    for name, values in saved.items():
        if name.startswith("turned/"):
            _, number, axis, site = name.split("/", 3)
            turning.setdefault(number, []).append((site, int(axis)))
            references[site] = np.asarray(values, float)
    if target is not None and turning:
        axes = [tuple(turning[number]) for number in sorted(turning, key=int)]
        target = aligned(target, axes, references, np.asarray(saved["embedding"], float))
    if target is None:
        raise OptionError(
            "The latents that the saved fit integrates out cannot be integrated out of this model.",
            f"Sites {', '.join(sorted(left))}.",
            "Attach the model and the data it was fitted with.",
        )
    return target
