"""What a fit may cost: no stage begins that would take it beyond what NUTS takes on the same posterior.

All of it is reckoned from programs (`jensen._math.reckoning`), not from a clock, so that a seed gives the same bits on
every machine.
"""

import warnings

import jax

from jensen._base.caution import users_line
from jensen._base.errors import LongFitWarning
from jensen._model import Target

DRAWS, STEPS, COMPILED = 1000, 8.0, 4.0
"""Draws of NUTS, warm-up included; leapfrog steps of each in one dimension, which grow with its fourth root (Beskos,
Pillai, Roberts, Sanz-Serna and Stuart 2013); seconds in which its program is compiled."""

EVALUATIONS, GRADIENTS = 150, 16_000
"""Evaluations that a fit of few coordinates asks for where each is dear, and gradients that one of many asks for."""
LONG = 600.0
"""Seconds of processor time from which on a fit says so before it begins."""


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


def for_last(target: Target) -> float:
    """Seconds of what a fit may end with: what is `left`, or as much as NUTS where that is half of the whole."""
    return max(left(target), min(spent(target), of_sampling(target)))


def of_field(target: Target) -> float:
    """Seconds of a fit of what a field leaves, from few evaluations."""
    return target.price.seconds(EVALUATIONS, EVALUATIONS)


def of_gradients(target: Target) -> float:
    """Seconds of a fit of many coordinates by stochastic gradients."""
    return target.price.seconds(GRADIENTS, GRADIENTS / target.wide)


def announce(seconds: float, target: Target, what: str) -> None:
    """Warn, before anything is spent, of a fit that takes long."""
    if seconds < LONG or jax.default_backend() != "cpu":  # what others take is not reckoned
        return
    one = target.price.seconds(1)
    warnings.warn(
        f"This fit takes {seconds / 60.0:,.0f} minutes of processor time or so, as reckoned from the program: one "
        f"gradient of the log density {what} takes {one:.2g} s. Give `budget=` seconds for the best answer until then, "
        "or write the model with fewer latents or a sparse precision.",
        LongFitWarning,
        stacklevel=users_line(),
    )
