"""Where the components of a mixture prior begin: around clusters of probable latents."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from jensen.algorithms.hierarchical.start import responsibilities
from jensen.families import FullRank, MeanField, Mixture
from jensen.families.hierarchical import Hierarchical, MixtureAuxiliary
from jensen.families.hierarchical.features import features, flat
from jensen.models.native import NativeTarget

BROAD, KEPT, SPREAD = 4096, 400, 3.0
"""Latents looked at, those resampled from them, and the sd of ψ that they are drawn at."""


def placed(target: NativeTarget, q: Hierarchical, seed: int) -> Hierarchical:
    """The same family with its components at clusters of latents, each placed by maximum likelihood.

    Latents are drawn broadly (from λ three units wide, and from the model's prior), resampled in proportion to
    p(x, z), and clustered by k-means++ seeds: variational bounds seek modes, and a component finds the one it is near.
    A family without a mixture prior and auxiliary of its own making is returned as it is.
    """
    if not (isinstance(q.prior, Mixture) and isinstance(q.auxiliary, MixtureAuxiliary)):
        return q
    rng = np.random.default_rng([seed, 5])
    draws = {n: np.asarray(v) for n, v in jax.device_get(_broad(q, jr.split(jr.key(seed), BROAD // 2))).items()}
    prior = target.prior_draws(BROAD // 2, seed + 1)
    if set(prior) == set(draws):
        draws = {n: np.concatenate([v, np.asarray(prior[n], v.dtype)]) for n, v in draws.items()}
    logs = target.log_joint(draws)
    logs = np.where(np.isfinite(logs), logs, -np.inf)
    if not np.isfinite(logs.max()):
        return q
    share = np.exp(logs - logs.max())
    chosen = rng.choice(len(share), size=KEPT, p=share / share.sum())
    kept = {n: jnp.asarray(v[chosen]) for n, v in draws.items()}
    table = np.asarray(_seen(q, kept), float)
    labels = _clusters(table, q.num_strata, rng)
    means = np.asarray(_likeliest(q, kept, jax.nn.one_hot(labels, q.num_strata).T), float)
    counts = np.bincount(labels, minlength=q.num_strata) + 1.0
    parts = [_moved(q.prior, k, mean) for k, mean in enumerate(means)]
    mixture = jax.tree.map(jnp.asarray, Mixture.of(parts, np.log(counts / counts.sum())))
    inputs = jax.eval_shape(lambda: features(q.likelihood, q.likelihood.values(jr.key(0), pathwise=False)))
    auxiliary = responsibilities(mixture, inputs, table.shape[1], seed)
    return Hierarchical(q.likelihood, q.scale, mixture, auxiliary, q.importance)


def _moved(prior: Mixture, k: int, mean: np.ndarray) -> FullRank | MeanField:
    part: Any = jax.tree.map(lambda x: np.asarray(x)[k], prior.components)
    return dataclasses.replace(part, loc=mean)


def _clusters(table: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Labels by k-means from k-means++ seeds."""
    centres = table[[int(rng.integers(len(table)))]]
    for _ in range(count - 1):
        near = ((table[:, None] - centres) ** 2).sum(-1).min(axis=1)
        total = near.sum()
        pick = int(rng.choice(len(table), p=near / total)) if total > 0 else int(rng.integers(len(table)))
        centres = np.concatenate([centres, table[[pick]]])
    labels = np.zeros(len(table), int)
    for _ in range(10):
        labels = ((table[:, None] - centres) ** 2).sum(-1).argmin(axis=1)
        centres = np.stack(
            [table[labels == k].mean(axis=0) if (labels == k).any() else c for k, c in enumerate(centres)]
        )
    return labels


@eqx.filter_jit
def _broad(q: Hierarchical, keys: Any) -> Any:
    def one(key: Any) -> Any:
        first, second = jr.split(key)
        return q.given(SPREAD * jr.normal(first, (q.dim,))).values(second, pathwise=False)

    return jax.lax.map(one, keys, batch_size=256)


@eqx.filter_jit
def _seen(q: Hierarchical, kept: Any) -> Any:
    return jnp.arcsinh(jax.vmap(lambda value: flat(q.features(value)))(kept))


@eqx.filter_jit
def _likeliest(q: Hierarchical, kept: Any, weights: Any) -> Any:
    """ψ of every cluster: the mean log density of its members, less |ψ|² / 2·12² (one observation's worth of prior)."""

    def one(weight: Any) -> Any:
        def objective(point: Any) -> Any:
            logs = jax.vmap(q.given(point).log_prob)(kept)
            logs = jnp.where(weight > 0, logs, 0.0)
            return -(weight @ logs) / jnp.maximum(weight.sum(), 1.0) + 0.5 * jnp.sum(point**2) / 144.0

        optimiser = optax.adam(0.1)

        def step(carry: Any, _: Any) -> Any:
            point, state = carry
            update, state = optimiser.update(jax.grad(objective)(point), state)
            return (point + update, state), None

        start = jnp.zeros(q.dim)
        (point, _), _ = jax.lax.scan(step, (start, optimiser.init(start)), None, length=200)
        return point

    return jax.vmap(one)(weights)
