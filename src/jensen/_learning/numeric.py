"""Parameters without a closed-form M step, where the latents' conditional is still exact."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from numpyro.distributions.distribution import validation_enabled

from jensen._conjugate.algebra import ConjugateTarget
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate.plated import PlatedAscent, ascent_for
from jensen._conjugate.coordinate.solution import solution
from jensen._conjugate.coordinate.starts import random_start
from jensen._core import Certificate, Estimates, Outcome, Progress
from jensen._core.algorithm import Run
from jensen._core.family import stopped
from jensen._learning.variational import Chart, Edge, check_start
from jensen._math import lbfgs
from jensen._math.programs import Program
from jensen._model.parameters import LEARNED, Parameter
from jensen._model.parameters.charts import at_edge

Values = dict[str, np.ndarray]


def profile(target: ConjugateTarget, prepare: Program, chart: Chart) -> Callable[[Any, Any], Any]:
    """(data arrays, unconstrained parameters) -> max_q L(q, θ) = log p(x; θ), for a model of one block.

    The block's factor is the exact conditional; by the envelope theorem it is held constant in the gradient, which is
    that of the expected log joint: Fisher's identity.
    """
    (name,) = target.model.blocks
    count = len(target.model.energy.arrays)
    block = target.model.blocks[name]

    def bound(arrays: dict[str, Any], flat: Any) -> Any:
        known = prepare.fn({**arrays, LEARNED: chart.forward(flat)})
        model = target.model.with_arrays(known[:count])
        factor = stopped(model.factor(name, model.message(name, {name: block.zeros()})))
        return model.expected_log_joint({name: stopped(factor.mean_params())}) + stopped(factor.entropy())

    return bound


def run(
    cavi: CAVI,
    target: ConjugateTarget,
    prepare: Program,
    parameters: tuple[Parameter, ...],
    close: Callable[[Values], ConjugateTarget],
    seed: int,
) -> Run:
    """Quasi-Newton ascent of log p(x; θ), the E step exact at every point; every accepted step raises it."""
    values = {p.name: np.asarray(p.initial, float) for p in parameters}
    chart = Chart.of(values, {p.name: p.support for p in parameters})
    start = chart.inverse(values)
    arrays = {name: array for name, array in target.program.arrays.items() if name != LEARNED}
    program = Program(jax.value_and_grad(profile(target, prepare, chart), argnums=1), target.heavy)

    def evaluate(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with validation_enabled(False):
            found = [jax.device_get(program(arrays, row)) for row in rows]
        return np.array([float(v) for v, _ in found]), np.stack([np.asarray(g, float) for _, g in found])

    kinds = {p.name: p.kind for p in parameters}

    def reached(point: np.ndarray, bound: float) -> Outcome:
        """The exact conditional of the latents at these parameters."""
        found = jax.device_get(chart.forward(point))
        values = {name: np.asarray(value, float) for name, value in found.items()}
        known = close(values)
        ascent = ascent_for(known.model)
        streamed = isinstance(ascent, PlatedAscent)
        rng = np.random.default_rng(seed)
        begun = ascent.begin({} if streamed else random_start(known.model, rng, seeds=False))
        estimates = Estimates(values, kinds, True, Certificate(bound=bound))
        certificate = Certificate(elbo=begun.elbo)
        return Outcome(solution(ascent, begun, known), False, "", certificate, estimates=estimates, target=known)

    edge, path = Edge(start, chart), None
    for step, paths in enumerate(lbfgs.maximise(evaluate, start[None], max_steps=cavi.max_sweeps)):
        path = paths[0]
        yield Progress("parameters", step, path.values[-1], partial(reached, path.points[-1], path.values[-1]))
        if edge.reached(path.points[-1], path.values[-1]):
            break
    assert path is not None  # the start is always yielded
    point, bound, _ = path.best
    check_start("log likelihood", bound, chart)
    edge.ended(path)
    names = ", ".join(map(repr, kinds))
    far = edge.far(point)
    how = "Converged" if path.converged else f"Stopped ({path.stopped or 'at the edge'})"
    found = reached(point, bound)
    return replace(
        found,
        converged=path.converged,
        status=f"Maximum likelihood for {names} with an exact E step: {how} after {len(path.points) - 1} quasi-Newton "
        f"steps.{at_edge(far)}",
        certificate=found.certificate | {"sweeps": float(len(path.points))},
    )
