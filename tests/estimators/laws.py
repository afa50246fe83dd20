"""The law of unbiasedness, as functions, so that it can itself be tested on a planted bias."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._bounds import ELBO

NUM_KEYS = 200_000
NODES, MASSES = np.polynomial.hermite_e.hermegauss(40)
GRID = np.stack(np.meshgrid(NODES, NODES, indexing="ij"), axis=-1).reshape(-1, 2)
GRID_MASS = np.outer(MASSES, MASSES).reshape(-1) / MASSES.sum() ** 2


def exact_elbo(q, log_density):
    """E_q log p + H[q] of a two-dimensional Gaussian by a product of Gauss-Hermite rules, differentiable in q.

    Exact for polynomials of degree below 80 in u; independent of how q draws, of which only mean and covariance enter.
    """
    slope = jax.jacfwd(q.transform)(jnp.zeros(q.noise_dim))
    covariance = slope @ slope.T
    root = jnp.linalg.cholesky(covariance)
    points = q.transform(jnp.zeros(q.noise_dim)) + GRID @ root.T
    entropy = jnp.log(2 * jnp.pi * jnp.e) + jnp.sum(jnp.log(jnp.diagonal(root)))
    return GRID_MASS @ jax.vmap(log_density)(points) + entropy


def per_key(estimator, bound, model, q, num_keys=NUM_KEYS, seed=17):
    """Values and gradients, one of each per key."""

    def one(key):
        return jax.value_and_grad(lambda q: estimator(bound, model, q, None, key))(q)

    return jax.jit(jax.vmap(one))(jr.split(jr.key(seed), num_keys))


def scores(samples, exact):
    """z-scores of the mean of every coordinate; a coordinate that never varies must equal its exact value."""
    out = []
    for sample, truth in zip(jax.tree.leaves(samples), jax.tree.leaves(exact), strict=True):
        sample, truth = np.asarray(sample).reshape(len(sample), -1), np.asarray(truth).reshape(-1)
        spread = sample.std(axis=0) / np.sqrt(len(sample))
        error = sample.mean(axis=0) - truth
        constant = spread < 1e-13 * np.maximum(1.0, np.abs(truth))
        assert np.all(np.abs(error[constant]) < 1e-9)
        out.append(error[~constant] / spread[~constant])
    return np.concatenate(out)


def sampled(estimators, model, q, log_density):
    """For every estimator (samples, exact) of the ELBO's value and gradient, in one compiled program."""

    def one(key):
        return {
            name: jax.value_and_grad(lambda q, e=estimator: e(ELBO(), model, q, None, key))(q)
            for name, estimator in estimators.items()
        }

    def everything(keys):
        return jax.vmap(one)(keys), jax.value_and_grad(exact_elbo)(q, log_density)

    samples, exact = jax.device_get(jax.jit(everything)(jr.split(jr.key(17), NUM_KEYS)))
    return {name: (samples[name], exact) for name in estimators}


def assert_unbiased(samples, exact):
    """Every |z| below 4."""
    found = scores(samples, exact)
    assert len(found) >= 3
    assert np.abs(found).max() < 4, found
