"""Models with parameters, and their data."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

rng = np.random.default_rng(1)
CENTRES = 4.0 * rng.normal(size=(3, 2))
CLUSTERS = CENTRES[rng.integers(3, size=400)] + rng.normal(size=(400, 2)) @ np.array([[1.0, 0.3], [0.0, 0.7]])
ROWS = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) + rng.normal(size=(200, 5)) * [0.3, 0.5, 0.4, 0.6, 0.5] + 2.0
EFFECTS = 2.0 * rng.normal(size=8) + 1.0
SCHOOLS = {"sigma": np.full(8, 0.7), "y": EFFECTS, "mu": 0.0, "tau": 1.0}
DESIGN = rng.normal(size=(100, 4))
OUTCOME = (rng.uniform(size=100) < 1.0 / (1.0 + np.exp(-DESIGN @ [1.0, -1.0, 0.0, 0.5]))).astype(int)


def mixture(x, k=3):
    weights = numpyro.param("weights", jnp.ones(k) / k, constraint=constraints.simplex)
    mu = numpyro.param("mu", x[:k])
    sigma = numpyro.param("sigma", jnp.stack([jnp.eye(2)] * k), constraint=constraints.positive_definite)
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(weights))
        numpyro.sample("x", dist.MultivariateNormal(mu[c], covariance_matrix=sigma[c]), obs=x)


def factors(x, tied, k=2):
    d = x.shape[1]
    loadings = numpyro.param("loadings", lambda key: jax.random.normal(key, (d, k)))
    mean = numpyro.param("mean", jnp.mean(x, 0))
    noise = numpyro.param("noise", jnp.ones(() if tied else d), constraint=constraints.positive)
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([k]).to_event(1))
        numpyro.sample("x", dist.Normal(z @ loadings.T + mean, noise).to_event(1), obs=x)


def groups(sigma, y, mu, tau):
    with numpyro.plate("group", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def logistic(x, y, tau):
    w = numpyro.sample("w", dist.Normal(0, tau).expand([4]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=x @ w).to_event(1), obs=y)


def held(sigma, y):
    variance = numpyro.sample("variance", dist.InverseGamma(2.0, 1.0))
    with numpyro.plate("group", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(0, jnp.sqrt(variance)))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)
