"""Empirical Bayes for groups of data: the population's mean and spread maximised, the schools' effects inferred."""

import numpy as np
import numpyro
import numpyro.distributions as dist

import jensen as jn


def schools(sigma, y, mu, tau):
    """Effects around a common mean, measured with known errors."""
    with numpyro.plate("school", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


data = {
    "y": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 38.0, 18.0, 52.0]),
    "sigma": np.array([7.0, 10.0, 8.0, 11.0, 9.0, 11.0, 10.0, 9.0]),
    "mu": 0.0,
    "tau": 10.0,
}
fit = jn.fit(schools, data, learn=["mu", "tau"])
print(fit.status)
print(fit.estimates)
print(fit.summary()[["mean", "sd"]])
print(fit.evidence())
print(fit.check())
