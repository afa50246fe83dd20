"""Models with rows, and their data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.module import eqx_module
from numpyro.distributions import constraints

rng = np.random.default_rng(0)
N, D, K = 100, 4, 1
X = rng.normal(size=(N, K)) @ rng.normal(size=(K, D)) + 0.5 * rng.normal(size=(N, D)) + 2.0
GROUPS = 1.0 + 0.7 * rng.normal(size=(40, 1)) + 0.5 * rng.normal(size=(40, 3))


def linear(x, k=K):
    """Probabilistic principal components: the VAE with linear maps."""
    d = x.shape[1]
    loadings = numpyro.param("loadings", lambda key: jax.random.normal(key, (d, k)))
    mean = numpyro.param("mean", jnp.zeros(d))
    noise = numpyro.param("noise", 1.0, constraint=constraints.positive)
    with numpyro.plate("row", x.shape[0]):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([k]).to_event(1))
        numpyro.sample("x", dist.Normal(z @ loadings.T + mean, noise).to_event(1), obs=x)


def one_normal(x):
    """Each row: z ~ N(0, 1), x ~ N(z, 1)."""
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(0, 1))
        numpyro.sample("x", dist.Normal(z, 1.0), obs=x)


def one_code(x):
    """Each row: c ~ Bernoulli(0.3), x ~ N(2 c, 1)."""
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Bernoulli(0.3))
        numpyro.sample("x", dist.Normal(2.0 * c, 1.0), obs=x)


def both(x):
    """A code, a coordinate that depends on it, and a slope and a scale that all rows share."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    scale = numpyro.param("scale", 0.8, constraint=constraints.positive)
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(jnp.array([0.2, 0.5, 0.3])))
        z = numpyro.sample("z", dist.Normal(c - 1.0, 1.0))
        numpyro.sample("x", dist.Normal(slope * z + 0.3 * c, scale), obs=x)


def groups(x):
    """A mean that all rows share, and each row's effect."""
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    with numpyro.plate("row", x.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, 0.7))
        numpyro.deterministic("double", 2 * theta)
        numpyro.sample("x", dist.Normal(theta[:, None], 0.5).expand([len(x), 3]).to_event(1), obs=x)


NET = eqx.nn.MLP(1, 2, 8, 1, key=jax.random.key(3))


def decoded(x, k=1):
    """A network from the latent to the row."""
    net = eqx_module("net", NET)
    with numpyro.plate("row", x.shape[0]):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([k]).to_event(1))
        numpyro.sample("x", dist.Normal(jax.vmap(net)(z), 0.3).to_event(1), obs=x)


class Constant(eqx.Module):
    """The same factor for every row."""

    raw: jax.Array

    def __call__(self, row):
        return self.raw + 0.0 * jnp.sum(row)


def hierarchy(x):
    """A place that all rows share, a learned spread around it, a code and a coordinate."""
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    tau = numpyro.param("tau", 0.8, constraint=constraints.positive)
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(jnp.array([0.2, 0.5, 0.3])))
        z = numpyro.sample("z", dist.Normal(mu + c - 1.0, tau))
        numpyro.sample("x", dist.Normal(z, 0.5), obs=x)
