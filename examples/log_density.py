"""A model that is just a function: a log density over named arrays with supports, and no NumPyro.

    python examples/log_density.py

A Weibull model of survival times, some of them censored: the likelihood is written by hand.
"""

import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints

import jensen as jn


def log_joint(z, time, died):
    """log p(time, z): Weibull hazards for deaths, survival for the censored, half-normal and log-normal priors."""
    shape, scale = z["shape"], z["scale"]
    scaled = time / scale
    hazard = jnp.log(shape / scale) + (shape - 1) * jnp.log(scaled)
    prior = -0.5 * (shape / 3) ** 2 - 0.5 * (jnp.log(scale) - 2) ** 2 - jnp.log(scale)
    return jnp.sum(died * hazard - scaled**shape) + prior


rng = np.random.default_rng(1)
true = 8.0 * rng.weibull(1.6, size=120)
data = {"time": np.minimum(true, 10.0), "died": (true < 10.0).astype(float)}

weibull = jn.LogDensity(
    log_joint, {"shape": (), "scale": ()}, {"shape": constraints.positive, "scale": constraints.positive}
)
fits = {method: jn.fit(weibull, data, method) for method in ("auto", "laplace")}
print(jn.compare(fits)[["elbo", "elbo_se", "khat", "verdict"]].round(3), end="\n\n")

fit = fits["auto"]
print(fit.summary().round(3), end="\n\n")
draws = fit.sample(4000)
median = draws["scale"] * np.log(2) ** (1 / draws["shape"])
print(f"median survival {median.mean():.2f} (90 %: {np.quantile(median, 0.05):.2f} to {np.quantile(median, 0.95):.2f})")
print(fit.check())
