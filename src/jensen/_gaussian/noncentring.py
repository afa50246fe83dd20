"""Effects in their own location and scale: Gaussians in non-centred coordinates, tried for models with such sites."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jensen._core import Outcome, Progress
from jensen._gaussian.family_comparison import Measured, measure
from jensen._gaussian.on_target import on_target
from jensen._model import Target
from jensen._modes.climbs import Survey
from jensen._nested.noncentred import centring, noncentred

PARTLY = 0.2
"""Share of the information on some effect that comes from the data, from which on partly centred effects are tried."""
DENSE = 1000
"""Coordinates up to which a covariance is inverted."""

Fit = Callable[..., Generator[Progress, None, tuple[Outcome, Survey | None]]]
"""(target, seed, a point to begin at, whether few others do) -> a Gaussian, and the modes that were seen."""


@dataclass(frozen=True)
class Coordinates:
    """A Gaussian in some coordinates: the target in them, what the fit left, and its bound on fresh draws."""

    target: Target
    outcome: Outcome
    found: Survey | None
    measured: Measured


def attempt(
    target: Target, first: Any, seed: int, fit: Fit
) -> Generator[Progress, None, tuple[Coordinates | None, list[Measured]]]:
    """(the best Gaussian in non-centred coordinates, all that was tried); (None, []) for models without such sites.

    First all effects are non-centred. Where u_i ~ N(m, s) and the data add the precision d_i, the best share of the
    model's own coordinates is c_i = s² d_i / (1 + s² d_i) (Papaspiliopoulos, Roberts and Sköld 2007, section 3), and
    the fitted precision of the non-centred v_i given all else is E[1 + s² d_i]: so a second Gaussian is fitted in
    coordinates with these c, unless all are small. Each begins where the one before, at the beginning the Gaussian
    `first`, has its mean: that has been looked for from many places.
    """
    other = noncentred(target)
    if other is None:
        return None, []
    best = yield from _fitted(other, seed, fit, _moved(target, first, other))
    tried = [best.measured]
    shares = informed(other, best.outcome.q)
    if max(float(share.max()) for share in shares.values()) > PARTLY:
        partly = noncentred(target, shares)
        assert partly is not None  # it has the same sites
        second = yield from _fitted(partly, seed, fit, _moved(other, best.outcome.q, partly))
        tried.append(second.measured)
        best = max(best, second, key=lambda one: one.measured.bound)
    return best, tried


def informed(target: Target, q: Any) -> dict[str, np.ndarray]:
    """Site -> the share of the information on each effect that comes from the data, between 0 and 1."""
    precision = np.diag(np.linalg.inv(q.covariance())) if q.dim <= DENSE else 1.0 / q.scales() ** 2
    structure, out = target.structure, {}
    for name, centred in centring(target).items():
        start = structure.offsets[name]
        own = precision[start : start + structure.sites[name].size]
        out[name] = np.clip(1.0 - 1.0 / np.maximum(own, 1e-12), 0.0, 1.0).reshape(np.shape(centred))
    return out


def described(target: Target) -> str:
    """Which sites are non-centred, in words."""
    parts = []
    for name, centred in centring(target).items():
        share = np.asarray(centred)
        if share.min(initial=1.0) < 0.95:
            parts.append(f"'{name}' {'partly ' if share.max(initial=0.0) > 0.05 else ''}non-centred")
    return ", ".join(parts) or "centred"


def named(family: str, target: Target) -> str:
    """A family, and its coordinates where these are not the model's own."""
    where = described(target)
    return family if where == "centred" else f"{family}, {where}"


def _moved(target: Target, q: Any, other: Target) -> np.ndarray | None:
    """The mean of a Gaussian in the coordinates of another target of the same latents, if it is there."""
    latents = target.latent(np.asarray(q.loc, float))
    point = other.inverse({name: np.asarray(value)[None] for name, value in latents.items()})[0][0]
    return point if np.isfinite(other.value(point[None])[0]) else None


def _fitted(target: Target, seed: int, fit: Fit, near: np.ndarray | None) -> Generator[Progress, None, Coordinates]:
    name = f"Gaussian, {described(target)}"
    outcome, found = yield from on_target(target, fit(target, seed, near, near is not None))
    outcome = replace(outcome, target=target)
    return Coordinates(target, outcome, found, measure(target, name, outcome.q, seed, outcome.converged))
