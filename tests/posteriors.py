"""Models with known posteriors, their data, and fits of them made once per process."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

import jensen as jn

# ---- Gaussian posteriors, given by mean and precision ------------------------------------


def quadratic(z, mean, precision):
    shift = z["x"] - mean
    return -0.5 * shift @ precision @ shift


@functools.cache
def quadratic_model(dim):
    return jn.LogDensity(quadratic, {"x": dim})


def gaussian(dim, correlation, seed=0):
    """Mean, covariance and precision: equal correlations, coordinates in units from 0.01 to 100."""
    rng = np.random.default_rng(seed)
    sd = 10.0 ** rng.uniform(-2, 2, dim)
    mean = sd * rng.normal(size=dim) * 3
    covariance = ((1 - correlation) * np.eye(dim) + correlation) * np.outer(sd, sd)
    return mean, covariance, np.linalg.inv(covariance)


# ---- NumPyro models ------------------------------------


def conjugate(x, y):
    """Gaussian-Gaussian: w ~ N(0, 4 I), y ~ N(x w, 0.5²); posterior and evidence in closed form."""
    with numpyro.plate("feature", x.shape[1]):
        w = numpyro.sample("w", dist.Normal(0.0, 2.0))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)


def conjugate_data(rows=12, dim=3, seed=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, dim)) @ (np.eye(dim) + 0.5)
    return {"x": x, "y": x @ rng.normal(size=dim) + 0.5 * rng.normal(size=rows)}


def conjugate_answer(x, y):
    """Posterior mean and covariance, log p(y)."""
    precision = x.T @ x / 0.25 + np.eye(x.shape[1]) / 4.0
    covariance = np.linalg.inv(precision)
    marginal = 0.25 * np.eye(len(y)) + 4.0 * x @ x.T
    _, log_det = np.linalg.slogdet(marginal)
    log_evidence = -0.5 * (y @ np.linalg.solve(marginal, y) + log_det + len(y) * np.log(2 * np.pi))
    return covariance @ (x.T @ y / 0.25), covariance, float(log_evidence)


def logistic(x, y=None):
    with numpyro.plate("feature", x.shape[1]):
        w = numpyro.sample("w", dist.Normal(0.0, 2.0))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)


def logistic_data(rows=40, seed=1):
    rng = np.random.default_rng(seed)
    x = np.stack([np.ones(rows), rng.normal(size=rows), rng.normal(size=rows)], axis=1)
    return {"x": x, "y": (rng.uniform(size=rows) < 1 / (1 + np.exp(-x @ [0.5, 1.0, -1.5]))).astype(int)}


def counts(x, group, y=None):
    """Poisson regression with group effects, centred; three supports' worth of sites."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    tau = numpyro.sample("tau", dist.HalfNormal(1.0))
    with numpyro.plate("group", 6):
        effect = numpyro.sample("effect", dist.Normal(1.0, tau))
    numpyro.deterministic("rate_ratio", jnp.exp(slope))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Poisson(jnp.exp(effect[group] + slope * x)), obs=y)


def counts_data(seed=3):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(6), 8)
    x = rng.normal(size=48)
    return {"x": x, "group": group, "y": rng.poisson(np.exp(rng.normal(1.0, 0.7, 6)[group] + 0.3 * x))}


def robust_regression(x, y):
    a = numpyro.sample("a", dist.Normal(0.0, 5.0))
    b = numpyro.sample("b", dist.Normal(0.0, 5.0))
    scale = numpyro.sample("scale", dist.HalfNormal(2.0))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.StudentT(4.0, a + b * x, scale), obs=y)


def robust_data(seed=8):
    rng = np.random.default_rng(seed)
    x = np.linspace(-2, 2, 30)
    return {"x": x, "y": 1.0 + 0.5 * x + 0.4 * rng.standard_t(3, size=30)}


SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SCHOOLS = {"sigma": SIGMA, "y": EFFECT}


def schools_centred(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(sigma)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def schools_answer():
    """Means and sds of mu, tau and theta by quadrature over tau; mu and theta given tau are Gaussian."""
    log_tau = np.linspace(-12, 7, 4001)
    tau = np.exp(log_tau)[:, None]
    spread = SIGMA**2 + tau**2
    precision = 1 / 25 + (1 / spread).sum(axis=1)
    centre = (EFFECT / spread).sum(axis=1) / precision
    log_weight = (
        -0.5 * np.log(spread).sum(axis=1)
        - 0.5 * (EFFECT**2 / spread).sum(axis=1)
        + 0.5 * precision * centre**2
        - 0.5 * np.log(precision)
        - np.log1p((tau[:, 0] / 5) ** 2)
        + log_tau
    )
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    shrink = tau**2 / spread
    theta = centre[:, None] + shrink * (EFFECT - centre[:, None])
    within = shrink * SIGMA**2 + (1 - shrink) ** 2 / precision[:, None]
    mean = {"mu": weight @ centre, "tau": weight @ tau[:, 0], "theta": weight @ theta}
    square = {
        "mu": weight @ (1 / precision + centre**2),
        "tau": weight @ tau[:, 0] ** 2,
        "theta": weight @ (within + theta**2),
    }
    return {name: (mean[name], np.sqrt(square[name] - mean[name] ** 2)) for name in mean}


# ---- plain log densities ------------------------------------

FUNNEL_SCALE = 3.0


def _funnel(z):
    return -0.5 * (z["v"] / FUNNEL_SCALE) ** 2 - 0.5 * jnp.sum(z["x"] ** 2) * jnp.exp(-z["v"]) - 4.5 * z["v"]


def _banana(z):
    return -0.5 * z["x"] ** 2 - 0.5 * ((z["y"] - 0.5 * z["x"] ** 2) / 1.0) ** 2


def _sharp_banana(z):
    return -0.5 * z["x"] ** 2 - 0.5 * ((z["y"] - z["x"] ** 2) / 0.3) ** 2


def _two_modes(z, weight, distance):
    near = jnp.log(weight) - 0.5 * (z["x"] - distance) ** 2
    return jnp.logaddexp(near, jnp.log1p(-weight) - 0.5 * (z["x"] + distance) ** 2)


def _far_mode(z, place, width):
    """Half the mass at 0, half far outside the region where climbs start."""
    return jnp.logaddexp(-0.5 * z["x"] ** 2, -0.5 * ((z["x"] - place) / width) ** 2 - jnp.log(width))


funnel = jn.LogDensity(_funnel, {"v": (), "x": 9})
banana = jn.LogDensity(_banana, {"x": (), "y": ()})
sharp_banana = jn.LogDensity(_sharp_banana, {"x": (), "y": ()})
two_modes = jn.LogDensity(_two_modes, {"x": ()})
far_mode = jn.LogDensity(_far_mode, {"x": ()})
cauchy = jn.LogDensity(lambda z: -jnp.log1p(z["x"] ** 2), {"x": ()})
student = jn.LogDensity(lambda z: -3.0 * jnp.log1p(z["x"] ** 2 / 5.0), {"x": ()})
exponential = jn.LogDensity(lambda z: -z["rate"], {"rate": ()}, {"rate": constraints.positive})
skewed = jn.LogDensity(lambda z: -0.5 * z["x"] ** 2 + jax.scipy.stats.norm.logcdf(4.0 * z["x"]), {"x": ()})
ring = jn.LogDensity(lambda z: -0.5 * ((jnp.sqrt(jnp.sum(z["x"] ** 2) + 1e-12) - 5.0) / 0.3) ** 2, {"x": 2})
wall = jn.LogDensity(lambda z: jnp.where(z["x"] > 0, -0.5 * z["x"] ** 2, -jnp.inf), {"x": ()})

MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "conjugate": (conjugate, conjugate_data()),
    "logistic": (logistic, logistic_data()),
    "counts": (counts, counts_data()),
    "robust": (robust_regression, robust_data()),
    "schools": (schools, SCHOOLS),
    "schools_centred": (schools_centred, SCHOOLS),
    "funnel": (funnel, {}),
    "banana": (banana, {}),
    "sharp_banana": (sharp_banana, {}),
    "two_modes": (two_modes, {"weight": 0.5, "distance": 10.0}),
    "uneven_modes": (two_modes, {"weight": 0.8, "distance": 5.0}),
    "far_mode": (far_mode, {"place": 15.0, "width": 1.0}),
    "far_narrow_mode": (far_mode, {"place": 6.0, "width": 0.3}),
    "far_wide_mode": (far_mode, {"place": 15.0, "width": 3.0}),
    "cauchy": (cauchy, {}),
    "student": (student, {}),
    "exponential": (exponential, {}),
    "skewed": (skewed, {}),
    "ring": (ring, {}),
    "wall": (wall, {}),
}

METHODS: dict[str, Any] = {
    "gaussian": jn.auto(escalate=False, integrate=False),
    "laplace": "laplace",
    "pathfinder": "pathfinder",
    "mean_field": jn.advi(),
    "full_rank": jn.advi(family="full_rank"),
}


@functools.cache
def fitted(model: str, method: str = "gaussian", seed: int = 0) -> jn.Fit:
    """The fit of a named model by a named method; made once per process."""
    program, data = MODELS[model]
    return jn.fit(program, data, METHODS.get(method, method), seed=seed)
