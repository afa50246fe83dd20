"""The default gradient on a hierarchical normal, against the classical reductions of variance, per parameter.

    python benchmarks/hierarchical_normal.py [--gradients 1000]

θ ~ N(0, 10²), z_i ~ N(θ, 1), x_i ~ N(z_i, 1) for 100 rows: what the Markov blanket of θ leaves out cancels what it
keeps, so that Rao-Blackwellisation with a control variate is far noisier for θ than the plain score with one. Every
estimator has 128 draws; variances are for one draw, coordinates in units of their Fisher information, at the start of a
fit and at the mean-field optimum. "scores alone" is the default for a density without gradients.
"""

import argparse
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist

import jensen as jn
from jensen._blackbox.recipes import chosen_estimator
from jensen._core.family import stopped
from jensen._estimators.credit import AbstractCredit
from jensen._estimators.score_function import without_value
from jensen._families import native
from jensen._math.precision import working
from jensen._model.native import NativeTarget, native_target
from jensen.core import AbstractEstimator, total
from jensen.estimators import Blanket, ScoreFunction, Whole

N, DRAWS = 100, 128


def model(x):
    """Means of rows around a common one."""
    theta = numpyro.sample("theta", dist.Normal(0, 10))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(theta, 1))
        numpyro.sample("x", dist.Normal(z, 1), obs=x)


class ControlVariate(AbstractEstimator):
    """Mean of (w - a h) h with a = Σ w h² / Σ h² of the other draws, for each coordinate of normal factors."""

    linear_only: ClassVar[bool] = True
    credit: AbstractCredit
    num_draws: int = eqx.field(static=True)

    def __call__(self, bound: Any, model: Any, q: Any, batch: Any, key: Any) -> Any:
        """The bound, with that gradient."""
        still = stopped(q)
        values = jax.vmap(still.values)(jr.split(key, self.num_draws))
        terms = jax.vmap(lambda value: model.log_joint(value, batch))(values)
        log_prob = {n: jax.vmap(f.log_prob)(values[n]) for n, f in still.factors.items()}
        log_w = jax.vmap(total)(terms) - jax.vmap(total)(log_prob)
        surrogate = bound(log_w)
        for name, factor in still.factors.items():
            signal = self.credit(still, name, log_prob[name].shape[1:], terms, log_prob, log_w)
            standard = (values[name] - factor.loc) / jnp.exp(factor.log_scale)
            for leaf, h in (("loc", standard / jnp.exp(factor.log_scale)), ("log_scale", standard**2 - 1)):
                others = [jnp.sum(x, axis=0) - x for x in (signal * h**2, h**2)]
                slope = jnp.mean((signal - others[0] / others[1]) * h, axis=0)
                surrogate = surrogate + without_value(slope, getattr(q.factors[name], leaf))
        return surrogate


def optimum(x):
    """The mean-field optimum: means of the posterior, variances from the diagonal of its precision."""
    precision = np.diag(np.concatenate([[0.01 + N], np.full(N, 2.0)]))
    precision[0, 1:] = precision[1:, 0] = -1.0
    mean = np.linalg.solve(precision, np.concatenate([[0.0], x]))
    scales = -0.5 * np.log(np.diag(precision))
    return product(mean, scales)


def product(mean, log_scale):
    """Normal factors of θ (first) and the rows."""
    mean, log_scale = jnp.asarray(mean), jnp.asarray(log_scale)
    return native.Product({"theta": native.Normal(mean[0], log_scale[0]), "z": native.Normal(mean[1:], log_scale[1:])})


def main():
    """Print the variances, and the two ratios of the default, for each factor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gradients", type=int, default=1000)
    count = parser.parse_args().gradients
    x = np.random.default_rng(0).normal(3.0, np.sqrt(2.0), size=N)
    with working("double"):
        target = native_target(model, {"x": x}, "double")
        black = NativeTarget(target.model, target.structure, target.precision, differentiable=False)
        places = {"start": product(np.zeros(N + 1), np.zeros(N + 1)), "optimum": optimum(x)}
        for place, q in places.items():
            links = target.links({name: factor.rows for name, factor in q.factors.items()})
            classical = {
                "score + CV": ControlVariate(Whole(), DRAWS),
                "RB + CV": ControlVariate(Blanket(links), DRAWS),
                "RLOO": ScoreFunction(DRAWS),
            }
            ours = {
                "default": chosen_estimator(target, q, links, DRAWS, jr.key(0)),
                "scores alone": chosen_estimator(black, q, links, DRAWS, jr.key(0)),
            }
            table = jn.gradient_variance(model, {"x": x}, q, {**classical, **ours}, num_gradients=count).table
            for factor in q.factors:
                variance = {name: table["variance"][factor, name] for name in (*classical, *ours)}
                best = min(variance[name] for name in classical)
                figures = "  ".join(f"{name} {value:.3g}" for name, value in variance.items())
                print(f"{place:8s} {factor:6s} {figures}  max |z| {table['z'][factor].max():.1f}")
                for name in ours:
                    rb = variance["RB + CV"] / variance[name]
                    print(
                        f"{'':15s} {name}: {variance[name] / best:.3g} of the best classical, RB + CV {rb:.3g} times it"
                    )


if __name__ == "__main__":
    main()
