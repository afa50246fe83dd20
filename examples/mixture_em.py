"""Exact EM for a Gaussian mixture, against scikit-learn's from the same start: the same log likelihood to 1e-8 nats."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from sklearn.mixture import GaussianMixture

import jensen as jn

rng = np.random.default_rng(1)
centres = 4.0 * rng.normal(size=(3, 2))
x = centres[rng.integers(3, size=400)] + rng.normal(size=(400, 2)) @ np.array([[1.0, 0.3], [0.0, 0.7]])


def mixture(x, k=3):
    """Weights, means and covariances are parameters, each row's component is latent."""
    weights = numpyro.param("weights", jnp.ones(k) / k, constraint=constraints.simplex)
    mu = numpyro.param("mu", x[:k])
    sigma = numpyro.param("sigma", jnp.stack([jnp.eye(2)] * k), constraint=constraints.positive_definite)
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("x", dist.MultivariateNormal(mu[c], covariance_matrix=sigma[c]), obs=x)


fit = jn.fit(mixture, {"x": x}, jn.cavi(tolerance=1e-14, max_sweeps=4000))
print(fit.status)
print(fit.estimates)

start = {"weights_init": np.ones(3) / 3, "means_init": x[:3], "precisions_init": np.stack([np.eye(2)] * 3)}
peer = GaussianMixture(3, tol=1e-15, max_iter=5000, reg_covar=0.0, **start).fit(x)
theirs = peer.score_samples(x).sum()
print(f"log likelihood {fit.elbo.value:.10f}, scikit-learn's {theirs:.10f} nats: {fit.elbo.value - theirs:.1e} apart")
print(fit.check())
