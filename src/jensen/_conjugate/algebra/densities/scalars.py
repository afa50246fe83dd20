"""Scalar densities on the real line, the positive half-line and the unit interval, in nats."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from scipy.special import gammaln as host_gammaln

from jensen._conjugate.algebra.densities.registry import density
from jensen._conjugate.algebra.value import Value, known_function, log, power
from jensen._model.parameters import Flat

HALF_LOG_2PI = 0.5 * float(np.log(2.0 * np.pi))


def log_gamma(value: Value, what: str) -> Value:
    """log Γ of a value that holds no latent."""
    return known_function(value, lambda xp, a: host_gammaln(a) if xp is np else gammaln(jnp.asarray(a)), what)


@density(Flat)
def flat(x: Value) -> Value:
    """Zero: no prior."""
    del x
    return Value((), known=np.zeros(()))


@density(dist.Normal, "loc", "scale")
def normal(x: Value, loc: Value, scale: Value) -> Value:
    """-½ (x - loc)² / scale² - log scale - ½ log 2π."""
    return -0.5 * (power(x - loc, 2.0) * power(scale, -2.0)) - log(scale) - HALF_LOG_2PI


@density(dist.LogNormal, "loc", "scale")
def log_normal(x: Value, loc: Value, scale: Value) -> Value:
    """The normal density of log x, minus log x."""
    return normal(log(x), loc, scale) - log(x)


@density(dist.HalfNormal, "scale")
def half_normal(x: Value, scale: Value) -> Value:
    """log 2 + the normal density, on x ≥ 0."""
    return -0.5 * (power(x, 2.0) * power(scale, -2.0)) - log(scale) - HALF_LOG_2PI + float(np.log(2.0))


@density(dist.Laplace, "loc", "scale")
def laplace(x: Value, loc: Value, scale: Value) -> Value:
    """-|x - loc| / scale - log(2 scale), for a known residual."""
    distance = known_function(x - loc, lambda xp, a: xp.abs(a), "the residual of a Laplace density")
    return -(distance * power(scale, -1.0)) - log(scale) - float(np.log(2.0))


@density(dist.Gamma, "concentration", "rate")
@density(dist.Chi2, "concentration", "rate")
def gamma(x: Value, concentration: Value, rate: Value) -> Value:
    """a log b - log Γ(a) + (a - 1) log x - b x."""
    constant = log_gamma(concentration, "the concentration of a Gamma density")
    return concentration * log(rate) - constant + (concentration - 1.0) * log(x) - rate * x


@density(dist.InverseGamma, "concentration", "rate")
def inverse_gamma(x: Value, concentration: Value, rate: Value) -> Value:
    """a log b - log Γ(a) - (a + 1) log x - b / x."""
    constant = log_gamma(concentration, "the concentration of an InverseGamma density")
    return concentration * log(rate) - constant - (concentration + 1.0) * log(x) - rate * power(x, -1.0)


@density(dist.Exponential, "rate")
def exponential(x: Value, rate: Value) -> Value:
    """log b - b x."""
    return log(rate) - rate * x


@density(dist.Pareto, "scale", "alpha")
def pareto(x: Value, scale: Value, alpha: Value) -> Value:
    """log a + a log s - (a + 1) log x."""
    return log(alpha) + alpha * log(scale) - (alpha + 1.0) * log(x)


@density(dist.Beta, "concentration1", "concentration0")
def beta(x: Value, concentration1: Value, concentration0: Value) -> Value:
    """(a - 1) log x + (b - 1) log(1 - x) - log B(a, b)."""
    a, b = concentration1, concentration0
    what = "a concentration of a Beta density"
    normaliser = log_gamma(a, what) + log_gamma(b, what) - log_gamma(a + b, what)
    return (a - 1.0) * log(x) + (b - 1.0) * log(1.0 - x) - normaliser


def _uniform_parameters(d: Any) -> dict[str, Any]:
    return {"low": d.low, "high": d.high}


@density(dist.Uniform, parameters=_uniform_parameters)
def uniform(x: Value, low: Value, high: Value) -> Value:
    """-log(high - low); the support is checked apart."""
    del x
    return known_function(high - low, lambda xp, a: -xp.log(a), "a bound of a Uniform density")


@density(dist.ImproperUniform)
def improper_uniform(x: Value) -> Value:
    """Zero: whether the conditional is proper is seen when it is normalised."""
    del x
    return Value((), known=np.zeros(()))
