"""Two rows of every native family at parameters of no special kind."""

import jax.numpy as jnp

from jensen._families import native
from jensen._math.precision import working


def rows(*values):
    return jnp.array(values)


def factors():
    return {
        "normal": native.Normal(rows(0.3, -0.5), rows(-0.4, 0.1)),
        "log_normal": native.LogNormal(rows(0.2, -0.3), rows(-0.7, -0.5)),
        "gamma": native.Gamma(rows(0.3, -0.2), rows(0.9, 1.6)),
        "shifted_gamma": native.Gamma(rows(0.3, -0.2), rows(0.9, 1.6), 0.5),
        "beta": native.Beta(rows(0.3, -0.8), rows(1.6, 2.2), -1.0, 3.0),
        "dirichlet": native.Dirichlet(jnp.array([[0.4], [-0.3]]), rows(1.8, 1.5)),
        "von_mises": native.VonMises(rows(0.6, -1.0), rows(0.4, 1.5)),
        "bernoulli": native.Bernoulli(rows(0.7, -0.4)),
        "categorical": native.Categorical(jnp.array([[0.3, -0.5, 0.1], [0.0, 0.6, -0.2]]), 1),
        "binomial": native.Binomial(rows(0.2, -0.6), 5),
        "poisson": native.Poisson(rows(0.5, 1.1)),
        "negative_binomial": native.NegativeBinomial(rows(0.4, 0.9), rows(0.8, 1.2)),
        "discretised_normal": native.DiscretisedNormal(rows(2.0, 4.4), rows(-0.3, 0.2), 1),
        "discretised_normal_to": native.DiscretisedNormal(rows(2.0, 5.0), rows(-0.3, 0.2), 0, 7),
        "geometric": native.Geometric(rows(0.3, -0.2), 1),
    }


with working("double"):
    FACTORS = factors()
