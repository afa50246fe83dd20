"""A model seen on the supports of its own latents, discrete ones included: what black-box methods work on."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import constraints

from jensen._base.errors import ModelError, UndefinedError
from jensen._core import AbstractModel, AbstractTarget, total
from jensen._math.keys import split
from jensen._math.precision import Precision, working
from jensen._math.programs import Program
from jensen._model.build import build
from jensen._model.count_floors import floors
from jensen._model.prior_draws import prior_draws
from jensen._model.program import BoundProgram, program_of
from jensen._model.subsample import Subsample, subsampled
from jensen._model.target import Target
from jensen._program.analysis import is_fixed, placeholders
from jensen._program.bijection import AbstractChart
from jensen._program.contract import AbstractProgram
from jensen._program.dependence import Links, links
from jensen._program.host_function import check_points, shown
from jensen._program.number_widths import seeded
from jensen._program.programs import as_program
from jensen._program.structure import Structure

WIDTHS = (64, 512)
"""Draws of one call of the log joint."""


class NativeTarget(AbstractTarget):
    """The model, its structure, and which entry of its log joint depends on which row of which latent.

    Attributes:
        model: evaluated by `log_joint` at values on the supports.
        structure: sites and plates.
        precision: of the computation.
        differentiable: whether gradients in the continuous latents exist.
        subsample: batches of one plate's rows, where a fit works on them.
        row_inputs: what the data say of each row, (rows, F), where a fit asks for it.
    """

    model: AbstractModel
    structure: Structure
    differentiable: bool
    values: int

    def __init__(
        self,
        model: AbstractModel,
        structure: Structure,
        precision: Precision,
        differentiable: bool = True,
        subsample: Subsample | None = None,
    ):
        self.model, self.structure, self.differentiable = model, structure, differentiable
        self.subsample = subsample
        self.precision: Precision = precision
        self.gradients = self.values = 0
        self.row_inputs: np.ndarray | None = None

    @functools.cached_property
    def supports(self) -> dict[str, Any]:
        """Supports whose bounds are data, be it that the likelihood excludes what lies below."""
        chart = self.model.bijection
        known = dict(chart.bounds) if isinstance(chart, AbstractChart) else {}
        if self.subsample is not None or self.model.handled is None:
            return known
        with working(self.precision):
            terms = Program(_terms)
            found = floors(self.structure, lambda at: jax.device_get(terms(at, self.model)), self.links)
        return known | {name: constraints.integer_greater_than(low) for name, low in found.items()}

    @property
    def program(self) -> BoundProgram | None:
        """The NumPyro program behind the density; `None` for a plain log density."""
        return program_of(self.model, self.precision)

    @property
    def step_model(self) -> AbstractModel:
        """What a gradient step evaluates: the model on a batch of rows, or on all."""
        return self.model if self.subsample is None else self.subsample.model

    def rows(self, key: Any, count: int) -> np.ndarray | None:
        """The rows of `count` batches; `None` where steps are on all rows."""
        if self.subsample is None:
            return None
        return self.subsample.rows(np.random.default_rng(np.asarray(jax.random.key_data(key))), count)

    def batch(self, seed: int = 0) -> Any:
        """One batch at random; `None` where steps are on all rows."""
        return None if self.subsample is None else self.subsample.first(seed)

    def batches(self, count: int, mixed: bool) -> Any:
        """`count` batches side by side: the same each time, or each another; `None` where steps are on all rows."""
        if self.subsample is None:
            return None
        if mixed:
            return self.subsample.batches(np.random.default_rng(1), count)
        return jax.tree.map(lambda rows: np.broadcast_to(rows, (count, *np.shape(rows))), self.batch())

    def periodic(self, name: str) -> bool:
        """Whether the log joint is the same at both ends of a circular latent: gradients through its draws need it.

        A density of the angle itself, y ~ N(angle, 1) say, jumps where the circle closes.
        """
        if not all(is_fixed(site.support) for site in self.structure.latents):
            return False
        points = check_points(self.structure)
        value = np.asarray(points[name], float)
        ends = np.random.default_rng(0).uniform(size=value.shape) < 0.5
        ends.reshape(len(value), -1)[:, 0] = True
        edge = np.pi * (1.0 - 1e-9 if self.precision == "double" else 1.0 - 1e-6)
        low, high = (self.log_joint({**points, name: np.where(ends, side * edge, value)}) for side in (-1.0, 1.0))
        tolerance = 1e-6 if self.precision == "double" else 1e-3
        return bool(np.allclose(low, high, rtol=tolerance, atol=tolerance))

    def raise_failure(self) -> None:
        """Raise what a model outside JAX could not raise inside a compiled program."""
        if self.model.failure is not None:
            raise self.model.failure

    @functools.cached_property
    def elements(self) -> int:
        """Data values that one evaluation reads."""
        return max(1, sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.model)))

    def links(self, rows: Mapping[str, tuple[int, ...]]) -> Links:
        """Who depends on whom, by rows: those of a batch where steps are on batches."""
        with working(self.precision):
            if self.subsample is None:
                return links(_terms, placeholders(self.structure), rows, (self.model,))
            model = self.subsample.model
            first = model.on(self.subsample.first())
            return links(_terms, placeholders(self.subsample.structure), rows, (first,))

    def log_joint(self, draws: dict[str, Any]) -> np.ndarray:
        """log p(x, z) of stacked draws, in nats."""
        with working(self.precision):
            count = len(next(iter(draws.values())))
            self.values += count
            # Whole widths, so that numbers of draws share programs; where the host is called, every value costs.
            width = next((w for w in WIDTHS if count <= w), WIDTHS[-1]) if self.differentiable else max(1, count)
            rows = np.minimum(np.arange(-(-count // width) * width), count - 1).reshape(-1, width)
            parts = [_log_joint(self.model, {n: np.asarray(d)[own] for n, d in draws.items()}) for own in rows]
            values = np.concatenate([np.asarray(part, float) for part in jax.device_get(parts)])[:count]
        self.raise_failure()
        return values

    def prior_draws(self, count: int, seed: int) -> dict[str, np.ndarray]:
        """Draws of the latents from the prior, normal ones where it is improper; nothing for a plain log density."""
        model = self.model.handled
        if model is None:
            return self._forward(count, seed)[0]
        return prior_draws(model, [site.name for site in self.structure.latents], self.precision, count, seed)

    def prior_weights(self, count: int, seed: int) -> np.ndarray | None:
        """log p(x, z) / p(z) at draws of the prior, unbiased for p(x); `None` where there are no such draws."""
        model, names = self.model.handled, {site.name for site in self.structure.latents}
        if self.subsample is not None:
            return None
        if model is None:
            draws, log_prior = self._forward(count, seed)
            return self._weights(draws, log_prior) if draws else None

        def one(data: Any, key: Any) -> tuple[dict[str, Any], Any]:
            trace = handlers.trace(seeded(model.fn, key)).get_trace(**data, **model.fixed.value)
            drawn = {name: trace[name]["value"] for name in names}
            return drawn, sum(jnp.sum(trace[name]["fn"].log_prob(value)) for name, value in drawn.items())

        with working(self.precision):
            keys = split(jax.random.key(seed), count)
            try:
                draws, log_prior = jax.device_get(Program(jax.vmap(one, (None, 0)))(model.data, keys))
            except NotImplementedError:  # of an improper distribution
                return None
        return self._weights(draws, log_prior)

    def _weights(self, draws: dict[str, np.ndarray], log_prior: Any) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            weights = self.log_joint(draws) - np.asarray(log_prior, float)
        return np.where(np.isnan(weights), -np.inf, weights)

    def _forward(self, count: int, seed: int) -> tuple[dict[str, np.ndarray], Any]:
        """Draws of the prior by a program that says how, and their log densities; nothing by others."""
        if self.model.source is None:
            return {}, None
        program, data, fixed = self.model.source
        names = [site.name for site in self.structure.latents]

        def one(data: Any, key: Any) -> tuple[dict[str, Any], Any]:
            found = program.forward({}, {**data, **fixed}, key)
            drawn = {name: found[name] for name in names}
            terms = program.log_joint(drawn, {**data, **fixed})
            return drawn, total({name: terms[name] for name in names})

        with working(self.precision):
            try:
                keys = split(jax.random.key(seed), count)
                return jax.device_get(Program(jax.vmap(one, (None, 0)))(data, keys))
            except (UndefinedError, NotImplementedError):
                return {}, None

    def constrain(self, draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The draws with the model's deterministic sites."""
        names = [site.name for site in self.structure.deterministic]
        if not names:
            return draws
        assert self.program is not None
        return {**draws, **self.program.deterministic(draws, names)}


def _terms(latent: dict[str, Any], model: AbstractModel) -> Any:
    return model.log_joint(latent)


@jax.jit
def _log_joint(model: AbstractModel, draws: dict[str, Any]) -> Any:
    return jax.lax.map(lambda one: total(model.log_joint(one)), draws, batch_size=64)


def native_target(
    model: Callable[..., Any] | AbstractProgram,
    data: Mapping[str, Any] | None,
    precision: Precision,
    *,
    evaluable: bool = True,
    batch_size: int | None = None,
    plate: str | None = None,
) -> NativeTarget:
    """Check the data and analyse the model, discrete latents allowed; by batches of a plate's rows where asked for."""
    target: Target = build(model, data, precision, discrete=True, evaluable=evaluable)
    differentiable = as_program(model).traced
    if evaluable and differentiable:
        _refuse_random_numbers(target)
    found = NativeTarget(target.model, target.structure, precision, differentiable)
    if batch_size is None:
        return found
    latent = {name: values[0] for name, values in found.prior_draws(1, 0).items()}
    part = subsampled(model, data, target, latent, batch_size, plate, discrete=True)
    return NativeTarget(target.model, target.structure, precision, differentiable, part)


def _refuse_random_numbers(target: Target) -> None:
    """Trace the density twice: random numbers drawn inside it by NumPy are other constants each time."""
    if not all(is_fixed(site.support) for site in target.structure.latents):
        return
    with working(target.precision):
        points = check_points(target.structure)
        # A new function each time, so that it is traced anew; the compiled program is shared if nothing differs.
        first, again = (
            np.asarray(Program(lambda m, p: jax.vmap(lambda one: total(m.log_joint(one)))(p))(target.model, points))
            for _ in range(2)
        )
    different = np.flatnonzero(~np.isclose(first, again, rtol=0.0, atol=0.0, equal_nan=True))
    if different.size:
        at = int(different[0])
        raise ModelError(
            f"The log density is not deterministic: it gave {float(first[at])!r} and then {float(again[at])!r}.",
            f"Latents: {shown({name: value[at] for name, value in points.items()})}.",
            "Fix the random numbers inside: draw them once outside and pass them as data, or make them a sample site.",
        )
