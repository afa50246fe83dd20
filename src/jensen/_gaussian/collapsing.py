"""Where coordinate ascent leaves dependence: the density of few latents, others integrated out, of one rotation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jensen._base.errors import OptionError
from jensen._conjugate.algebra import conjugate_target
from jensen._conjugate.coordinate.collapse import Collapse, collapses
from jensen._conjugate.coordinate.density import CollapsedModel, collapsed_density
from jensen._core import Outcome
from jensen._gaussian.rotations import in_one_rotation, may_turn
from jensen._gaussian.start_from_factors import point_near
from jensen._model import Target
from jensen._model.one_rotation import saved_turns, with_turns


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
        turned = in_one_rotation(target, near, target.latent(near), fresh=True)
        if turned is not None:
            assert turned.initial is not None  # just set
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
    """Whether what stays and what leaves may turn together."""
    kept, out = ([site for name in names for site in plan.model.blocks[name].sites] for names in (plan.kept, plan.out))
    return may_turn(density, kept, out)


def chart(target: Target) -> dict[str, np.ndarray]:
    """What a file keeps to find such a density again from the program; empty where it is another."""
    if not isinstance(target.model, CollapsedModel):
        return {}
    saved = {f"left/{site.name}": np.zeros(0) for site in target.structure.conditional}
    return saved | saved_turns(target)


def on_chart(density: Target, saved: Mapping[str, np.ndarray]) -> Target:
    """The density that `chart` has described, from that of all latents."""
    left = {name.removeprefix("left/") for name in saved if name.startswith("left/")}
    program: Any = density.program
    model = conjugate_target(program.fn, program.kwargs, precision=density.precision).model
    plans = [p for p in collapses(model, None) if {s for n in p.out for s in model.blocks[n].sites} == left]
    target = collapsed_density(density, plans[0]) if plans else None
    target = target and with_turns(target, saved)
    if target is None:
        raise OptionError(
            "The latents that the saved fit integrates out cannot be integrated out of this model.",
            f"Sites {', '.join(sorted(left))}.",
            "Attach the model and the data it was fitted with.",
        )
    return target
