"""Small programs, each with data of six rows that it can be fitted to."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan

import jensen as jn

ROWS = 6
X = np.linspace(-1, 1, ROWS)
COUNTS = np.array([0, 3, 1, 2, 5, 1])
LABELS = np.array([0, 1, 1, 0, 1, 0])
GROUPS = np.array([0, 0, 1, 1, 2, 2])


def normal(y):
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def line(x, y=None):
    b, s = numpyro.sample("b", dist.Normal(0, 5)), numpyro.sample("s", dist.HalfNormal(2))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(b * x, s), obs=y)


def groups(g, y):
    with numpyro.plate("group", 3):
        a = numpyro.sample("a", dist.Normal(0, 2))
    with numpyro.plate("row", len(g)):
        numpyro.sample("y", dist.Normal(a[g], 1), obs=y)


def counts(x, y):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(b * x)), obs=y)


def labels(x, y):
    b = numpyro.sample("b", dist.Normal(0, 2))
    numpyro.sample("y", dist.Bernoulli(logits=b * x).to_event(1), obs=y)


def kinds(y):
    p = numpyro.sample("p", dist.Dirichlet(jnp.ones(2)))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Categorical(p), obs=y)


def mixture(y):
    m = numpyro.sample("m", dist.Normal(jnp.array([-1.0, 1.0]), 1.0).to_event(1))
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Categorical(probs=jnp.array([0.3, 0.7])))
        numpyro.sample("y", dist.Normal(m[z], 1), obs=y)


def masked(y):
    mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("row", len(y)), numpyro.handlers.mask(mask=~jnp.isnan(y)):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def walk(y):
    s = numpyro.sample("s", dist.HalfNormal(1))

    def step(before, now):
        numpyro.sample("y", dist.Normal(before, s), obs=now)
        return now, None

    scan(step, 0.0, y)


def learned(x, y):
    s = numpyro.param("s", 1.0, constraint=dist.constraints.positive)
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(b * x, s).to_event(1), obs=y)


def flat(y):
    a, b = (numpyro.sample(name, dist.ImproperUniform(dist.constraints.real, (), ())) for name in "ab")
    numpyro.sample("y", dist.Normal(a + b, 1), obs=y)


def joint(z, y):
    return -0.5 * z["m"] ** 2 - 0.5 * jnp.sum((y - z["m"]) ** 2)


def nothing(y):
    return y


LOG_DENSITY = jn.LogDensity(joint, {"m": ()})
FITTED = {
    normal: {"y": X},
    line: {"x": X, "y": 2 * X + np.sin(9 * X)},
    groups: {"g": GROUPS, "y": X},
    counts: {"x": X, "y": COUNTS},
    labels: {"x": X, "y": LABELS},
    kinds: {"y": LABELS},
    mixture: {"y": X},
    masked: {"y": np.where(LABELS == 1, np.nan, X)},
    walk: {"y": X},
    learned: {"x": X, "y": X},
    LOG_DENSITY: {"y": X},
    flat: {"y": X},
    nothing: {"y": X},
}
