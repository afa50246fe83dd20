"""Semi-amortised refinement: factors of single rows raised from where the encoder put them."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._amortised.ascent.evaluate import Evaluator
from jensen._amortised.ascent.steps import ADAM, RECENT
from jensen._amortised.family import Amortised, RowFactors, Shape
from jensen._amortised.family.row_factors import joint_states
from jensen._amortised.model import RowModel
from jensen._amortised.row_estimator import Learned, RowEstimator
from jensen._base.typing import Array
from jensen._bounds import ELBO
from jensen._math.noise import key_data, key_of
from jensen._math.precision import float_type, working
from jensen._math.programs import Program

STEPS = 300
DRAWS = 8
RATE = 0.05
"""First step size, in sds of the factors; it falls to zero."""


class Free(eqx.Module):
    """Row factors that are parameters themselves, in the place of an encoder's."""

    raw: Array
    shared: Any
    shape: Shape = eqx.field(static=True)

    def rows(self, model: RowModel, data: Mapping[str, Array], parameters: Mapping[str, Any]) -> RowFactors:
        """The factors."""
        del data, parameters
        return RowFactors.of(model.layout, self.shape, self.raw)


def refined(
    evaluator: Evaluator,
    q: Amortised,
    parameters: Mapping[str, Any],
    rows: Mapping[str, np.ndarray],
    seed: int,
    steps: int = STEPS,
) -> np.ndarray:
    """The numbers of these rows' factors after `steps` gradient steps on their own ELBO, (rows, size).

    Kim, Wiseman, Miller, Sontag and Rush (2018), at fixed parameters and q(β); iterates are averaged.
    """
    layout, kind = evaluator.model.layout, float_type(evaluator.target.precision)
    states = joint_states(layout) if layout.codes else None
    estimator = RowEstimator(DRAWS, 1, states, bool(layout.codes) and states is None)
    raw = evaluator.encoded(q, parameters, rows)
    with working(evaluator.target.precision):
        program = Program(lambda *given: _climbed(estimator, q.shape, *given), heavy=evaluator.mode)
        parts = []
        for number, (at, data) in enumerate(evaluator.blocks(rows)):
            index = np.minimum(np.arange(at.start, at.start + evaluator.block), len(raw) - 1)
            keys = key_data(steps, seed, number)
            rates = (RATE * (1.0 - np.arange(steps) / steps)).astype(kind)
            found = program(evaluator.model, raw[index], q.shared, dict(parameters), data, keys, rates)
            parts.append(np.asarray(found)[: at.stop - at.start])
            evaluator.target.gradients += steps * DRAWS * evaluator.block
    return np.concatenate(parts)


def _climbed(
    estimator: RowEstimator,
    shape: Shape,
    model: RowModel,
    raw: Any,
    shared: Any,
    parameters: Any,
    data: Any,
    keys: Any,
    rates: Any,
) -> Any:
    model = model.at(data)
    factors = RowFactors.of(model.layout, shape, raw)
    unit = jnp.ones_like(raw).at[:, : shape.dim].set(factors.sds())

    def body(carry: Any, item: Any) -> Any:
        raw, average, state, t = carry
        key, rate = item
        _, slope = estimator.gradient(
            ELBO(), model, Learned(Free(raw, shared, shape), parameters), data, 1.0, key_of(key)
        )
        update, new_state = ADAM.update(slope.q.raw * unit, state)
        new = raw + rate * unit * update
        fine = jnp.isfinite(new).all()
        raw, state = jax.tree.map(lambda a, b: jnp.where(fine, a, b), (new, new_state), (raw, state))
        weight = jnp.minimum(1.0, (RECENT + 1.0) / (t + RECENT))
        return (raw, average + weight * (raw - average), state, t + 1.0), None

    start = (raw, raw, ADAM.init(raw), jnp.ones((), raw.dtype))
    (_, average, _, _), _ = jax.lax.scan(body, start, (keys, rates))
    return average
