"""The one loop: what every method reports, kept; the best q so far where it is stopped, interrupted or fails."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np

from jensen._base.errors import ModelError
from jensen._core import Certificate, Outcome, Progress
from jensen._core.algorithm import SEARCHING
from jensen._math.clock import Stopwatch

CLEAR = 0.1
"""Nats by which the bound of an earlier phase is higher where its q is the better one."""


def drive(
    algorithm: Any,
    target: Any,
    seed: int,
    report: Callable[[Progress, float], None],
    watch: Stopwatch,
    budget: float = np.inf,
) -> tuple[Outcome, list[dict[str, Any]]]:
    """The outcome of a run and one row for every report; where it was stopped, the best that it had reported."""
    history: list[dict[str, Any]] = []
    found: dict[str, Progress] = {}
    run = algorithm.run(target, seed)
    try:
        while True:
            item = next(run)
            seconds = watch.read()["total"]
            history.append({"phase": item.phase, "step": item.step, "bound": item.bound, "seconds": seconds})
            if item.q is not None and (callable(item.q) or _finite(item.q)):
                found.pop(item.phase, None)  # the phases stand in the order of their last reports
                found[item.phase] = item
            report(item, seconds)
            if seconds > budget and found:
                return _stopped(found, f"Stopped by the budget of {budget:g} s after {seconds:.1f} s"), history
    except StopIteration as stop:
        outcome: Outcome = stop.value
    except KeyboardInterrupt:
        if not found:
            raise
        return _stopped(found, "Interrupted by the user"), history
    if not _finite(outcome.q):
        if not found:
            raise ModelError(
                "The fit became non-finite before any approximation was found.",
                f"Last phase: {history[-1]['phase'] if history else 'start'}.",
                "Check the scale of priors and data; try method='pathfinder'.",
            )
        best = _best(found)
        status = f"The fit became non-finite and was rolled back to phase '{best.phase}', step {best.step}."
        return _partial(best, status, Certificate(rolled_back=True)), history
    return outcome, history


def _stopped(found: dict[str, Progress], why: str) -> Outcome:
    best = _best(found)
    status = f"{why} in phase '{best.phase}', step {best.step}; this is the best approximation so far."
    return _partial(best, status, Certificate(interrupted=True))


def _best(found: dict[str, Progress]) -> Progress:
    """The last report, unless the bound was higher at the end of an earlier phase: the next begins where it can.

    A phase that searches reports densities at points, which are no bounds.
    """
    last = next(reversed(found.values()))
    bounds = {name: item.bound for name, item in found.items() if name not in SEARCHING and np.isfinite(item.bound)}
    top = max(bounds, key=lambda name: bounds[name], default=last.phase)
    known = last.phase in bounds or last.phase in SEARCHING  # chains have no bound, and come last
    return found[top] if known and bounds.get(top, -np.inf) > bounds.get(last.phase, -np.inf) + CLEAR else last


def _partial(item: Progress, status: str, certificate: Certificate) -> Outcome:
    """The outcome at a report: its q, written down now if it was not then, with what was learned up to there."""
    found = item.q() if callable(item.q) else item.q
    if isinstance(found, Outcome):
        return replace(found, converged=False, status=status, certificate=found.certificate | certificate)
    return Outcome(found, False, status, certificate)


def _finite(q: Any) -> bool:
    """Whether every parameter of q is finite."""
    return q is not None and all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(q, eqx.is_inexact_array_like))
    )
