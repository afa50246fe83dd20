"""log p(x, g) at draws of the globals g, the latents of the rows integrated out, from one pass over a source."""

from collections.abc import Mapping

import jax
import numpy as np

from jensen._conjugate.coordinate.global_step import outer_program
from jensen._conjugate.coordinate.stream import StreamTarget
from jensen._math.precision import working


def log_joints(target: StreamTarget, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """log p(x, g) in nats at each of many points: `values` maps global sites to (points, ...).

    Where local blocks depend on each other their bound stands in its place: see `exact`. Costs one reading of the
    data, and the local step of all rows for each point.
    """
    batches = target.batches
    with working(target.precision):
        tolerance = batches.local_tolerance()
        total, rows = np.zeros(len(next(iter(values.values())))), 0.0
        for batch in target.source.whole():
            for piece in batch:
                shape = batches.program(piece)
                arrays, weights = batches.inputs(piece, shape)
                rows += float(weights.sum())
                total = total + np.asarray(jax.device_get(shape.at_points(values, arrays, weights, tolerance)), float)
        batches.check_rows(rows)
        outer = outer_program(batches.rest)(values, batches.arrays[batches.rest])
        return total + np.asarray(jax.device_get(outer), float)


def exact(target: StreamTarget) -> bool:
    """Whether the latents of the rows leave exactly; else `log_joints` are lower bounds."""
    return not target.batches.rest.parts.carried
