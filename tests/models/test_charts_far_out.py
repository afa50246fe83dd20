"""Charts far out: the log density over R^D falls, or is not finite, where the maps onto supports round or overflow."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from jensen._model import build

PRIORS = {
    "half_normal": dist.HalfNormal(1.0),
    "half_cauchy": dist.HalfCauchy(1.0),
    "gamma": dist.Gamma(0.1, 2.0),
    "inverse_gamma": dist.InverseGamma(0.5, 1.0),
    "log_normal": dist.LogNormal(1.0, 2.0),
    "pareto": dist.Pareto(1.0, 1.5),
    "beta": dist.Beta(0.2, 3.0),
    "beta_top": dist.Beta(3.0, 0.2),
    "uniform": dist.Uniform(1.0, 2.0),
    "truncated": dist.TruncatedNormal(0.0, 1.0, low=3.0),
    "von_mises": dist.VonMises(0.5, 2.0),
    "dirichlet": dist.Dirichlet(jnp.array([0.1, 1.0, 3.0])),
    "ordered": dist.TransformedDistribution(dist.Normal(0.0, 1.0).expand([3]), dist.transforms.OrderedTransform()),
    "lkj": dist.LKJCholesky(3, 0.7),
    "multivariate": dist.MultivariateNormal(jnp.ones(3), 0.5 * jnp.eye(3) + 0.5),
    "student": dist.StudentT(3.0, 1.0, 2.0),
}


@pytest.mark.parametrize("name", PRIORS)
def test_no_proper_prior_rises_along_a_ray(name):
    """Along each axis and at random, from 30 units out: floats that lost what they stood for must not add mass."""
    target = build(lambda: numpyro.sample("z", PRIORS[name]), {}, "double")
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.eye(target.dim), -np.eye(target.dim), rng.normal(size=(4, target.dim))])
    lengths = np.array([30.0, 45.0, 100.0, 400.0, 720.0, 760.0, 1e4])
    points = (lengths[None, :, None] * rows[:, None, :]).reshape(-1, target.dim)
    values = target.value(points).reshape(len(rows), -1)
    known = np.where(np.isfinite(values), values, -np.inf)
    highest = np.maximum.accumulate(known[:, ::-1], axis=1)[:, ::-1]  # at this length or beyond
    assert (known[:, 0] >= highest[:, 0] - 1e-6).all()
    assert (known[:, -1] <= known[:, 0] - 20.0).all()


def test_scales_that_chain_do_not_rise_where_they_underflow():
    """Centred effects at their own location have a density that grows as 1/s; every coordinate must be seen to."""

    def model():
        s = numpyro.sample("s", dist.HalfNormal(1.0))
        numpyro.sample("a", dist.Normal(5.0, s))

    target = build(model, {}, "double")
    order = list(target.structure.offsets)
    logs = np.linspace(-600.0, 0.0, 200)
    columns = {"s": logs, "a": np.full(200, 5.0 + 1e-3)}
    values = target.value(np.stack([columns[name] for name in order], axis=1))
    peak = np.log(1e-3)
    below = values[logs < peak - 1.0]
    assert (np.diff(below[np.isfinite(below)]) >= 0.0).all()
    assert np.isfinite(values[-1])
