"""Eight schools (Rubin 1981; Gelman et al., Bayesian Data Analysis, section 5.5), with non-centred school effects.

Each school ran its own coaching programme and measured its effect y on a test score, with standard error sigma. The
question is how far the eight effects should be pulled towards a common mean.
"""

import numpyro
import numpyro.distributions as dist
from jax import Array


def model(sigma: Array, y: Array | None = None) -> None:
    """Effects theta around a common mean mu with spread tau."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(sigma)):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)
