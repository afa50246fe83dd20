"""Epochs of natural-gradient steps on minibatches."""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from jensen._base.errors import DataError
from jensen._conjugate.algebra import ConjugateTarget, Moments, Naturals
from jensen._conjugate.coordinate.batch_starts import LOOSE
from jensen._conjugate.coordinate.minibatch import Minibatches
from jensen._conjugate.coordinate.stream import StreamTarget, reached
from jensen._core import Progress
from jensen._data.sources import AbstractSource

QUIET = 1e-3
"""Nats per observed scalar: an epoch that gains less hands over to exact sweeps."""


@dataclass(frozen=True)
class Steps:
    """Where the steps ended.

    Attributes:
        moments, naturals: of the globals. epochs: passes over the rows. rows: that the last one had.
        estimates: the bound of every batch of the last pass before its step, in nats, if it stood for all rows.
    """

    moments: Moments
    naturals: Naturals
    epochs: int
    rows: int
    estimates: np.ndarray


def steps(
    batches: Minibatches,
    source: AbstractSource,
    rng: np.random.Generator,
    target: ConjugateTarget | StreamTarget,
    state: tuple[Moments, Naturals],
    scalars: float,
    *,
    delay: float | None,
    forgetting: float,
    averaging: bool,
    most: int,
) -> Generator[Progress, None, Steps]:
    """λ ← (1 - ρ_t) λ + ρ_t λ̂, ρ_t = (t + delay)**-forgetting, until an epoch gains no more than a little."""
    assert batches.size is not None
    (moments, naturals), size = state, batches.size
    step, before, epochs, mean, rows = 0, -np.inf, 0, naturals, 0
    values = np.zeros(0)
    while epochs < most:
        epochs, rows = epochs + 1, 0
        estimates: list[Any] = []
        inside: list[Any] = []
        mean = naturals
        for count, batch in enumerate(source.epoch(rng), 1):
            step += 1
            if delay is None:
                delay = 1.0 + batches.parameters / batches.entries_of(batch)
            rate = min(1.0, (step + delay) ** -forgetting)
            sums = batches.gather(moments, batch, size, LOOSE)
            held = naturals  # the estimate is of the bound before the step, and so is the q that is reported with it
            moments, naturals, estimate, _, ok = batches.update(moments, naturals, sums, rate)
            estimates.append(estimate)
            inside.append(ok)
            rows += sum(batches.rows_of(piece) for piece in batch)
            mean = batches.averaged(mean, naturals, np.asarray(1.0 / count)) if averaging else naturals
            if step <= 64 or step % 16 == 0:
                yield Progress("minibatch", step, float(estimate), partial(reached, batches, target, held))
        if not estimates:
            batches.check_rows(0.0)
        batches.check_inside(np.all(np.asarray(inside), axis=0), naturals)
        values = np.asarray(jax.device_get(estimates), float)
        now = float(values.mean())  # over the same rows in every epoch: batches differ by much more than epochs
        if not source.repeatable or now - before < QUIET * scalars:
            break
        before = now
    if not source.repeatable and rows > size:
        raise DataError(
            f"The iterator yielded {rows} rows, but size is {size}.",
            f"Plate '{batches.plate}'.",
            "Pass the number of rows of all batches together.",
        )
    if averaging:
        naturals = mean
        moments, ok = batches.moments_of(naturals)
        batches.check_inside(np.asarray(ok), naturals)
    return Steps(moments, naturals, epochs, rows, values)
