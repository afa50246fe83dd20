"""A mixture VAE: each row has a discrete code beside its coordinates, and the code finds the clusters by itself."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.module import eqx_module
from numpyro.distributions import constraints

import jensen as jn

rng = np.random.default_rng(1)
labels = rng.integers(3, size=300)
centres = np.array([[0.0, 3.0, 0.0, -2.0], [3.0, 0.0, -2.0, 0.0], [-3.0, -2.0, 2.0, 2.0]])
angle = rng.normal(size=300)
x = centres[labels] + np.stack([np.sin(angle), np.cos(angle), angle, -angle], 1) * 0.5 + 0.2 * rng.normal(size=(300, 4))
decoder = eqx.nn.MLP(2, 4, 32, 1, key=jax.random.key(0))


def model(x):
    """Code c, coordinates z around the code's own place, and a network from z to the row."""
    net = eqx_module("decoder", decoder)
    place = numpyro.param("place", 2.0 * jnp.array([[0.0, 1.0], [1.0, -0.5], [-1.0, -0.5]]))
    noise = numpyro.param("noise", 0.5, constraint=constraints.positive)
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(jnp.ones(3) / 3))
        z = numpyro.sample("z", dist.Normal(place[c], 0.5).to_event(1))
        numpyro.sample("x", dist.Normal(jax.vmap(net)(z), noise).to_event(1), obs=x)


fit = jn.fit(model, {"x": x}, jn.amortised(hidden=(32,), max_epochs=1000))
print(fit.status)
codes = fit.infer().probabilities()["c"].argmax(axis=1)
table = np.array([[np.sum((labels == i) & (codes == j)) for j in range(3)] for i in range(3)])
print("clusters by codes:", *table, sep="\n")
print(f"rows whose code is that of their cluster: {table.max(axis=1).sum() / 300:.0%}")
print(fit.check())
