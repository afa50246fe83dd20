"""Visits to a doctor in the RAND Health Insurance Experiment: a hierarchical Poisson-lognormal regression.

20,190 person-years fall into 200 cells of the same insurance plan, self-rated health, physical limitation and level of
illness. Plans share a common mean, and every cell has a rate of its own around what its plan and its people's health
predict. Did those who paid a share of the cost go less often?
"""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array


def model(
    plan: Array,
    health: Array,
    limited: Array,
    ill: Array,
    years: Array,
    visits: Array | None = None,
) -> None:
    """Visits given person-years; all effects are on the log scale."""
    base = numpyro.sample("base", dist.Normal(1, 1))
    plan_sd = numpyro.sample("plan_sd", dist.HalfNormal(0.5))
    with numpyro.plate("plans", 6):
        plan_rate = numpyro.sample("plan_rate", dist.Normal(base, plan_sd))
    with numpyro.plate("below_excellent", 3):
        health_effect = numpyro.sample("health_effect", dist.Normal(0, 0.5))
    limited_effect = numpyro.sample("limited_effect", dist.Normal(0, 0.5))
    ill_effect = numpyro.sample("ill_effect", dist.Normal(0, 0.5))
    cell_sd = numpyro.sample("cell_sd", dist.HalfNormal(0.5))

    by_health = jnp.concatenate([jnp.zeros(1), health_effect])[health]
    expected = jnp.asarray(plan_rate)[plan] + by_health + limited_effect * limited + ill_effect * (ill - 2.0)
    with numpyro.plate("cell", len(years)):
        log_rate = numpyro.sample("log_rate", dist.Normal(expected, cell_sd))
        numpyro.sample("visits", dist.Poisson(years * jnp.exp(log_rate)), obs=visits)
