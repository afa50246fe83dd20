"""The exact bound of a product of native factors, by enumeration or quadrature over every row, differentiable in q."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jensen._families import native


@functools.cache
def _rule(count):
    return np.polynomial.legendre.leggauss(count)


def nodes(factor, count=120):
    """Values (n, *event) of one row with their measure: counting, or Lebesgue by Gauss-Legendre of `count` nodes."""

    def _legendre(low, high):
        at, weights = _rule(count)
        return low + (high - low) * (at + 1) / 2, (high - low) / 2 * weights

    if factor.discrete:
        low = getattr(factor, "low", 0)
        top = 2 if isinstance(factor, native.Bernoulli) else (getattr(factor, "count", None) or -1) + 1
        if isinstance(factor, native.Categorical):
            top = factor.logits.shape[-1]
        return low + np.arange(top or 150), np.ones(top or 150)
    if isinstance(factor, native.Normal):  # in two parts, since a density may have a kink at zero
        (low, weights), (high, _) = _legendre(-9.0, 0.0), _legendre(0.0, 9.0)
        return np.concatenate([low, high]), np.concatenate([weights, weights])
    if isinstance(factor, native.VonMises):
        return _legendre(-np.pi, np.pi)
    if isinstance(factor, native.Dirichlet):
        u, w = _legendre(0.0, 1.0)
        x = u**2 * (3 - 2 * u)  # smooth at both ends
        return np.stack([x, 1 - x], axis=-1), w * 6 * u * (1 - u)
    if isinstance(factor, native.Beta):
        u, w = _legendre(0.0, 1.0)
        return factor.low + factor.width * u**2 * (3 - 2 * u), factor.width * w * 6 * u * (1 - u)
    u, w = _legendre(-7.0, 4.5)  # on a log scale
    low = getattr(factor, "low", 0.0)
    return low + np.exp(u), w * np.exp(u)


def grid(q, count=120):
    """Every combination of values of every row: stacked latents and log measure."""
    axes, places = [], []
    for name, factor in q.factors.items():
        for row in np.ndindex(*factor.rows):
            axes.append(nodes(factor, count))
            places.append((name, row))
    index = np.array(list(itertools.product(*(range(len(w)) for _, w in axes))))
    measure = np.prod([w[index[:, i]] for i, (_, w) in enumerate(axes)], axis=0)
    latent = {}
    for name, factor in q.factors.items():
        event = axes[[p[0] for p in places].index(name)][0].shape[1:]
        latent[name] = np.zeros((len(index), *factor.rows, *event), int if factor.discrete else float)
        for i, (owner, row) in enumerate(places):
            if owner == name:
                latent[name][(slice(None), *row)] = axes[i][0][index[:, i]]
    return {k: jnp.asarray(v) for k, v in latent.items()}, jnp.asarray(measure)


def exact_elbo(q, total_log_joint, points, measure):
    """Σ q (log p - log q) over the grid."""
    log_q = jax.vmap(q.log_prob)(points)
    log_p = jax.vmap(total_log_joint)(points)
    mass = jnp.exp(log_q) * measure
    return jnp.sum(jnp.where(mass > 0, mass * (log_p - log_q), 0.0))


def exact_two_particles(q, total_log_joint, points, measure):
    """E log ½ (w₁ + w₂) over all pairs of points."""
    log_q = jax.vmap(q.log_prob)(points)
    log_w = jax.vmap(total_log_joint)(points) - log_q
    mass = jnp.exp(log_q) * measure
    pair = jnp.logaddexp(log_w[:, None], log_w[None, :]) - jnp.log(2.0)
    return mass @ pair @ mass
