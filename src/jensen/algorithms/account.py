"""What a fit may cost: no stage begins that would take it beyond what NUTS takes on the same posterior.

All of it is reckoned from programs (`jensen.math.reckoning`), not from a clock, so that a seed gives the same bits on
every machine.
"""

from jensen.models import Target

DRAWS, STEPS, COMPILED = 1000, 8.0, 4.0
"""Draws of NUTS, warm-up included; leapfrog steps of each in one dimension, which grow with its fourth root (Beskos,
Pillai, Roberts, Sanz-Serna and Stuart 2013); seconds in which its program is compiled."""


def of_sampling(target: Target) -> float:
    """Seconds that NUTS would take on the program's own density, nothing integrated out."""
    whole = target.whole
    return COMPILED + DRAWS * STEPS * whole.dim**0.25 * whole.price.seconds(1)


def spent(target: Target) -> float:
    """Seconds that the gradients and values of this target have taken so far."""
    points = target.gradients + target.values
    return target.price.seconds(points, points / target.wide)


def left(target: Target) -> float:
    """Seconds until the fit has cost as much as NUTS."""
    return of_sampling(target) - spent(target)
