"""The linear VAE: its optimum is probabilistic PCA, in closed form, and its encoder the exact posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

import jensen as jn

rng = np.random.default_rng(0)
n, d, k = 200, 5, 2
x = rng.normal(size=(n, k)) @ rng.normal(size=(k, d)) + 0.5 * rng.normal(size=(n, d)) + 2.0


def model(x):
    """x = W z + mean + noise."""
    loadings = numpyro.param("loadings", lambda key: jax.random.normal(key, (d, k)))
    mean = numpyro.param("mean", jnp.zeros(d))
    noise = numpyro.param("noise", 1.0, constraint=constraints.positive)
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([k]).to_event(1))
        numpyro.sample("x", dist.Normal(z @ loadings.T + mean, noise).to_event(1), obs=x)


fit = jn.fit(model, {"x": x}, jn.amortised(hidden=(8,)))
print(fit.status)

values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
rest = values[k:].mean()
best = -0.5 * (d * np.log(2 * np.pi) + np.log(values[:k]).sum() + (d - k) * np.log(rest) + d)
print(f"bound a row {fit.elbo.value / n:.5f}, closed form {best:.5f} nats")

loadings, noise = fit.estimates["loadings"], fit.estimates["noise"]
precision = loadings.T @ loadings + noise**2 * np.eye(k)
exact = (x - fit.estimates["mean"]) @ loadings @ np.linalg.inv(precision)
print(f"encoder against the posterior mean: at most {np.abs(fit.infer().loc - exact).max():.4f} apart")
print(fit.surgery())
print(fit.check())
