"""Automatic relevance determination by empirical Bayes: each feature's precision maximises the evidence."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from scipy import optimize, stats

import jensen as jn

rng = np.random.default_rng(3)
n, d = 60, 3
x = rng.normal(size=(n, d))
y = x @ np.array([2.0, -1.0, 0.0]) + 0.5 * rng.normal(size=n)


def relevance(x, y, alpha, noise):
    """A linear regression whose weights have prior precisions alpha."""
    with numpyro.plate("feature", x.shape[1]):
        w = numpyro.sample("w", dist.Normal(0, 1 / jnp.sqrt(alpha)))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(x @ w, noise), obs=y)


data = {"x": x, "y": y, "alpha": np.ones(d), "noise": 1.0}
learn = {"alpha": constraints.positive, "noise": constraints.positive}
fit = jn.fit(relevance, data, learn=learn)
print(fit.status)
print(fit.estimates)


def evidence(log_alpha, log_noise):
    """log p(y), in closed form."""
    cov = x / np.exp(log_alpha) @ x.T + np.exp(2 * log_noise) * np.eye(n)
    return stats.multivariate_normal(np.zeros(n), cov).logpdf(y)


best = optimize.minimize(lambda p: -evidence(np.clip(p[:d], -8, 12), p[d]), np.zeros(d + 1), method="L-BFGS-B")
print(f"evidence {fit.elbo.value:.6f}, at the maximum of its closed form {-best.fun:.6f} nats")
print("prior sds of the weights:", 1 / np.sqrt(fit.estimates["alpha"]))
print(fit.summary()[["mean", "sd"]])
print(fit.check())
