"""Parameters that move along with a black-box q: one stochastic ascent of the bound in both."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._ascent.moves import PLAIN, AbstractMove
from jensen._base.errors import ModelError
from jensen._base.typing import Array, PRNGKey, Scalar
from jensen._core import AbstractBound, AbstractTarget, Estimates, Outcome, Progress, relayed
from jensen._core.algorithm import Run
from jensen._data.data_check import as_mapping
from jensen._math.precision import Precision, float_type, working
from jensen._model.native import NativeTarget, native_target
from jensen._model.parameters import LEARNED, Charts, Closed, Parameter
from jensen._model.subsample import RowsModel

WEIGHT = 5.0
"""A change of a parameter's unconstrained coordinate, relative to 1 + its size, counts as so many posterior sds."""


class Together(eqx.Module):
    """q with the parameters' unconstrained values."""

    q: Any
    parameters: dict[str, Array]

    def at(self, batch: Any) -> "Together":
        """q over the latents of a minibatch."""
        return Together(self.q.at(batch), self.parameters)

    def put(self, part: "Together", batch: Any) -> "Together":
        """With what `at` gave replaced by `part`."""
        return Together(self.q.put(part.q, batch), part.parameters)


class Jointly(eqx.Module):
    """An estimator of the bound as a function of q and the parameters: `inner` at the model with these parameters."""

    inner: Any
    charts: Charts = eqx.field(static=True)

    @property
    def num_draws(self) -> int:
        """That of the estimator."""
        return self.inner.num_draws

    def __call__(self, bound: AbstractBound, model: Any, both: Together, batch: Any, key: PRNGKey) -> Scalar:
        """The bound in nats."""
        values = self.charts.values(both.parameters)

        def where(model: Any) -> Any:
            return model.inner.data if isinstance(model, RowsModel) else model.data

        known = eqx.tree_at(where, model, {**where(model), LEARNED: values})
        return self.inner(bound, known, both.q, batch, key)


class JointMove(AbstractMove):
    """q moves as it does by itself, the parameters by Adam in unconstrained coordinates."""

    inner: AbstractMove

    def step(self, estimator: Any, q: Any, slope: Any, state: Any, rate: Any) -> tuple[Any, Any]:
        """Both."""
        units, adam = state

        def part(pick: Callable[[Any], Any]) -> Any:
            return adam._replace(mu=pick(adam.mu), nu=pick(adam.nu))

        moved, (units, own) = self.inner.step(estimator.inner, q.q, slope.q, (units, part(lambda x: x.q)), rate)
        updated: Any = PLAIN.update(slope.parameters, part(lambda x: x.parameters))
        update, other = updated
        parameters = jax.tree.map(lambda x, u: x + rate * u, q.parameters, update)
        joined = adam._replace(count=own.count, mu=Together(own.mu, other.mu), nu=Together(own.nu, other.nu))
        return Together(moved, parameters), (units, joined)

    def apart(self, a: Any, b: Any) -> float:
        """In posterior sds."""
        gaps = [self.inner.apart(a.q, b.q)]
        for name, value in a.parameters.items():
            other = np.asarray(b.parameters[name], float)
            change = np.abs(np.asarray(value, float) - other) / (1.0 + np.abs(other))
            gaps.append(WEIGHT * float(change.max(initial=0.0)))
        return max(gaps)


@dataclass(frozen=True, eq=False)
class LearnedTarget(AbstractTarget):
    """The model at its parameters' starting values, and what it takes to have it at others."""

    native: NativeTarget
    closed: Closed
    data: dict[str, Any]
    charts: Charts
    start: dict[str, np.ndarray]

    @property
    def precision(self) -> Precision:
        """Of the computation."""
        return self.native.precision

    def together(self, q: Any) -> Together:
        """q with the starting values."""
        return Together(q, {name: jnp.asarray(value) for name, value in self.start.items()})

    def outcome(self, found: Outcome) -> Outcome:
        """The outcome of a joint ascent as that of q at the parameters' values."""
        with working(self.precision):
            values = jax.device_get(self.charts.values(found.q.parameters))
        values = {name: np.asarray(value, float) for name, value in values.items()}
        kinds = {p.name: p.kind for p in self.closed.parameters}
        target = native_target(self.closed, {**self.data, LEARNED: values}, self.precision)
        names = ", ".join(map(repr, kinds))
        return replace(
            found,
            q=found.q.q,
            status=f"Variational EM for {names}. {found.status}",
            estimates=Estimates(values, kinds, False),
            target=target,
        )

    def reported(self, run: Run) -> Generator[Progress, None, Outcome]:
        """The run with q and parameters apart in what it reports and returns."""

        def apart(item: Progress) -> Progress:
            known = isinstance(item.q, Together)
            return replace(item, q=partial(self.outcome, Outcome(item.q, False, "")) if known else None)

        return self.outcome((yield from relayed(run, apart)))


def learned_target(
    fn: Callable[..., Any],
    parameters: tuple[Parameter, ...],
    data: Mapping[str, Any] | None,
    precision: Precision,
    batch_size: int | None = None,
    plate: str | None = None,
) -> LearnedTarget:
    """Analyse a program at its parameters' starting values, by batches of rows where asked for."""
    for p in parameters:
        if p.initial is None:
            raise ModelError(
                f"The latent '{p.name}' cannot be held at a point here.",
                p.where,
                "Write it as numpyro.param with an initial value, or leave it latent.",
            )
    taken = {p.name for p in parameters if p.kind == "argument"}
    rest = {name: value for name, value in as_mapping(data).items() if name not in taken}
    closed, kind = Closed(fn, parameters), float_type(precision)
    initial = {p.name: np.asarray(p.initial, kind) for p in parameters}
    native = native_target(closed, {**rest, LEARNED: initial}, precision, batch_size=batch_size, plate=plate)
    if native.model.handled is None or LEARNED not in native.model.handled.data:
        raise ModelError(
            "The model needs its parameters as concrete numbers while it is being built, so they cannot be learned.",
            f"Parameters: {', '.join(initial)}.",
            "Use jnp functions and jnp.where instead of Python's if on them.",
        )
    charts = Charts({p.name: p.support for p in parameters})
    with working(precision):
        start = {name: np.asarray(value, kind) for name, value in charts.points(initial).items()}
    return LearnedTarget(native, closed, rest, charts, start)
