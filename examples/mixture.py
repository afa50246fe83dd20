"""Blei, Kucukelbir and McAuliffe's mixture of unit-variance Gaussians by coordinate ascent, derived from the model.

    python examples/mixture.py

The program is plain NumPyro with a discrete latent; nobody writes an update. The bound is exact.
"""

import numpy as np
import numpyro
import numpyro.distributions as dist

import jensen as jn


def mixture(x, num_components=2):
    """Means N(0, 9); each observation picks one of them and adds unit noise."""
    with numpyro.plate("components", num_components):
        mean = numpyro.sample("mean", dist.Normal(0, 3))
    with numpyro.plate("rows", len(x)):
        component = numpyro.sample("component", dist.Categorical(np.full(num_components, 1 / num_components)))
        numpyro.sample("x", dist.Normal(mean[component], 1), obs=x)


def main() -> None:
    """Fit eight observations; the exact log evidence by enumeration is -17.88598379."""
    x = np.array([-2.1, -1.7, -2.4, 1.9, 2.2, 2.6, 0.3, -0.4])
    print(jn.explain(mixture, {"x": x}))
    fit = jn.fit(mixture, {"x": x}, method="cavi")
    print(fit.status)
    print(f"bound {fit.elbo.value:.8f} nats, at most the log evidence -17.88598379")
    print(fit.summary().round(3))
    print(fit.check())


if __name__ == "__main__":
    main()
