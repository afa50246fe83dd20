"""Principal components and factor analysis by EM: the closed form of the one, scikit-learn's maximum of the other."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from sklearn.decomposition import FactorAnalysis

import jensen as jn

rng = np.random.default_rng(4)
n, d, k = 300, 6, 2
x = rng.normal(size=(n, k)) @ rng.normal(size=(k, d)) + rng.normal(size=(n, d)) * [0.7, 0.9, 0.8, 1.0, 0.9, 0.8]


def factors(x, tied):
    """x = W z + mean + noise, its scale the same for all columns (tied) or each column's own."""
    loadings = numpyro.param("loadings", lambda key: jax.random.normal(key, (d, k)))
    mean = numpyro.param("mean", jnp.mean(x, 0))
    noise = numpyro.param("noise", jnp.ones(() if tied else d), constraint=constraints.positive)
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([k]).to_event(1))
        numpyro.sample("x", dist.Normal(z @ loadings.T + mean, noise).to_event(1), obs=x)


# Probabilistic principal components: the noise is the mean of the discarded eigenvalues (Tipping and Bishop 1999).
pca = jn.fit(factors, {"x": x, "tied": True}, jn.cavi(tolerance=1e-13, max_sweeps=20_000))
values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
noise = values[k:].mean()
best = -0.5 * n * (d * np.log(2 * np.pi) + np.log(values[:k]).sum() + (d - k) * np.log(noise) + d)
print(pca.status)
print(f"principal components: {pca.elbo.value:.8f}, closed form {best:.8f} nats")
print(f"noise variance: {pca.estimates['noise'] ** 2:.6f}, closed form {noise:.6f}")

fa = jn.fit(factors, {"x": x, "tied": False}, jn.cavi(tolerance=1e-13, max_sweeps=20_000))
peer = FactorAnalysis(k, tol=1e-13, max_iter=50_000, svd_method="lapack").fit(x)
print(fa.status)
print(f"factor analysis: {fa.elbo.value:.8f}, scikit-learn's {peer.score_samples(x).sum():.8f} nats")
print(fa.estimates)
print(fa.check())
