"""Estimators of the bound's gradient side by side: bias, variance, cost, ranking."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pandas as pd

from jensen._base.alone import alone
from jensen._base.arguments import count_of, seed_of
from jensen._base.extras import needed
from jensen._blackbox.recipes import chosen_estimator
from jensen._bounds import ELBO
from jensen._core import AbstractBound, AbstractEstimator
from jensen._estimators import Blanket, Mixed, Pathwise, Regressed, Scored, ScoreFunction, StickingTheLanding
from jensen._families.native import Product
from jensen._math.precision import default_precision, working
from jensen._model.door import opened
from jensen._model.native import NativeTarget, native_target
from jensen._program.contract import AbstractProgram
from jensen._program.dependence import Links

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCK = 20
"""Gradients computed side by side."""


@dataclass(frozen=True, eq=False)
class GradientVariance:
    """What `gradient_variance` measured.

    Attributes:
        table: one row for each estimator and factor: `variance` of the gradient for one draw (summed over the factor's
            coordinates, each in units of its Fisher information, so that factors compare), `z` the largest distance of
            a coordinate from the most precise estimator in standard errors, `seconds` for one call, `work` = variance ×
            seconds per draw, and `rank` by work within the factor.
        draws: gradients were averaged over this many draws for each estimator.
    """

    table: pd.DataFrame
    draws: int

    def best(self) -> dict[str, str]:
        """Factor -> the estimator of the least work."""
        first = self.table[self.table["rank"] == 1].reset_index()
        return dict(zip(first["factor"], first["estimator"], strict=True))

    def __str__(self) -> str:
        return f"Gradients over {self.draws} draws each; variance for one draw.\n" + self.table.to_string(
            float_format=lambda x: f"{x:.3g}"
        )

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format=lambda x: f"{x:.3g}")

    def plot(self) -> Figure:
        """Variance for one draw, by factor and estimator, on a log scale."""
        plt = needed("matplotlib.pyplot")
        wide = self.table["variance"].unstack("estimator")
        figure, axes = plt.subplots(figsize=(7, 0.6 + 0.35 * len(wide) * (1 + len(wide.columns) / 4)))
        wide.plot.barh(ax=axes, logx=True)
        axes.set(xlabel="variance of the gradient, one draw, units of Fisher information", ylabel="")
        axes.legend(fontsize="small", frameon=False)
        figure.tight_layout()
        return figure


@alone()
def gradient_variance(
    model: Callable[..., Any] | AbstractProgram,
    data: Mapping[str, Any] | None = None,
    q: Any = None,
    estimators: Mapping[str, AbstractEstimator] | None = None,
    *,
    bound: AbstractBound | None = None,
    num_gradients: int = 2000,
    seed: int = 0,
) -> GradientVariance:
    """Bias, variance and cost of gradient estimators at one q.

    Args:
        model: a NumPyro model or a `LogDensity`.
        data: the model's arguments.
        q: a fit by `bbvi`, or a product of native factors (`jensen._families.native`); by default `bbvi` fits one.
        estimators: name -> estimator; by default the score function with every control, and pathwise ones where every
            factor can be reparameterised.
        bound: the ELBO unless told otherwise.
        num_gradients: gradients for each estimator.
        seed: of the draws.

    Example:
        >>> import jensen as jn, numpyro, numpyro.distributions as dist
        >>> def coin(y):
        ...     z = numpyro.sample("z", dist.Bernoulli(0.3))
        ...     numpyro.sample("y", dist.Normal(1.0 * z, 1.0), obs=y)
        >>> found = jn.gradient_variance(coin, {"y": 0.8}, num_gradients=200)
        >>> sorted(found.best())
        ['z']
    """
    num_gradients, seed = count_of(num_gradients, "num_gradients"), seed_of(seed)
    precision = default_precision()
    data = opened(model, data, precision)
    target = native_target(model, data, precision)
    with working(precision):
        q = _product(q, model, data)
        links = target.links({name: factor.rows for name, factor in q.factors.items()})
        estimators = dict(estimators or default_estimators(target, q, links))
        rows, draws = [], 0
        found = {}
        for label, estimator in estimators.items():
            draws = int(getattr(estimator, "num_draws", 1))
            gradients, seconds = _measured(estimator, bound or ELBO(), target, q, num_gradients, seed)
            found[label] = gradients, seconds, draws
        for name, factor in q.factors.items():
            scale = [np.maximum(np.asarray(f, float), 1e-12) for f in jax.tree.leaves(factor.information())]
            flat = {label: _flat(g.factors[name], scale) for label, (g, _, _) in found.items()}
            spread = {label: g.var(axis=0, ddof=1) for label, g in flat.items()}
            exact = min(flat, key=lambda label, spread=spread: spread[label].sum())
            for label, g in flat.items():
                error = np.sqrt((spread[label] + (spread[exact] if label != exact else 0.0)) / num_gradients)
                gap = np.abs(g.mean(axis=0) - flat[exact].mean(axis=0))
                z = float(np.max(gap / np.maximum(error, 1e-12)))
                variance = float(spread[label].sum()) * found[label][2]
                seconds = found[label][1]
                rows.append((name, label, variance, z, seconds, variance * seconds / found[label][2]))
    table = pd.DataFrame(rows, columns=["factor", "estimator", "variance", "z", "seconds", "work"])
    table["rank"] = table.groupby("factor")["work"].rank(method="first").astype(int)
    return GradientVariance(table.set_index(["factor", "estimator"]), num_gradients)


def default_estimators(target: NativeTarget, q: Product, links: Links) -> dict[str, AbstractEstimator]:
    """The score function with every credit and control, and what else applies to all factors."""
    enough = max(Regressed().least(factor) for factor in q.factors.values())
    out: dict[str, AbstractEstimator] = {
        "default": chosen_estimator(target, q, links, enough, jr.key(0)),
        "score, leave-one-out": ScoreFunction(enough),
        "blanket, leave-one-out": ScoreFunction(enough, Blanket(links)),
        "regression": Mixed({name: Regressed() for name in q.factors}, enough),
        "blanket, regression": Mixed({name: Regressed(Blanket(links)) for name in q.factors}, enough),
    }
    if target.differentiable and q.reparameterised:
        out |= {"pathwise": Pathwise(enough), "path derivative": StickingTheLanding(enough)}
    elif target.differentiable and any(factor.reparameterised for factor in q.factors.values()):
        scored = {n: Scored(Blanket(links)) for n, f in q.factors.items() if not f.reparameterised}
        out["pathwise where possible"] = Mixed(scored, enough)
    return out


def _product(q: Any, model: Any, data: Any) -> Product:
    if isinstance(q, Product):
        return q
    if q is None:
        from jensen._fit.fit import fit
        from jensen._fit.methods import bbvi

        q = fit(model, data, bbvi())
    return q.q


def _flat(gradients: Any, scale: list[np.ndarray]) -> np.ndarray:
    """(gradients, coordinates), each coordinate over the root of its Fisher information."""
    leaves = [np.asarray(g, float) for g in jax.tree.leaves(gradients)]
    return np.concatenate([(g / np.sqrt(f)).reshape(len(g), -1) for g, f in zip(leaves, scale, strict=True)], axis=1)


def _measured(
    estimator: Any, bound: AbstractBound, target: NativeTarget, q: Product, count: int, seed: int
) -> tuple[Any, float]:
    """Gradients (count, ...), and processor seconds for one."""
    keys = jr.split(jr.key(seed), -(-count // BLOCK) * BLOCK).reshape(-1, BLOCK)
    jax.block_until_ready(_gradients(estimator, bound, target.model, q, keys[0]))
    start = time.process_time()
    parts = [jax.device_get(_gradients(estimator, bound, target.model, q, block)) for block in keys]
    seconds = (time.process_time() - start) / keys.size
    target.raise_failure()
    return jax.tree.map(lambda *blocks: np.concatenate(blocks)[:count], *parts), seconds


@eqx.filter_jit
def _gradients(estimator: Any, bound: Any, model: Any, q: Any, keys: Any) -> Any:
    return jax.vmap(lambda key: jax.grad(lambda q: estimator(bound, model, q, None, key))(q))(keys)
