"""What an auxiliary density sees of the latents: standardised scores of the variational likelihood."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from jensen._base.typing import Array, Latent, PRNGKey
from jensen._families.native import AbstractFactor, Product


def drawn_leaf(factor: AbstractFactor) -> Array:
    """The leaf that is drawn from the variational prior: the first one, which places the factor (mean, logit, rate)."""
    return jax.tree.leaves(factor)[0]


def with_drawn_leaf(factor: AbstractFactor, value: Array) -> AbstractFactor:
    """The same factor placed elsewhere."""
    leaves, treedef = jax.tree.flatten(factor)
    return jax.tree.unflatten(treedef, [value, *leaves[1:]])


def scores(factor: AbstractFactor, value: Array) -> Array:
    """∂ log q(z) / ∂λ over the square root of the Fisher information, of the shape of λ.

    For an exponential family this is the sufficient statistic, centred and of unit variance, whatever the family.
    """
    at = jax.lax.stop_gradient(drawn_leaf(factor))
    slope = jax.grad(lambda place: jnp.sum(with_drawn_leaf(factor, place).log_prob(value)))(at)
    return slope / jnp.sqrt(jnp.maximum(drawn_leaf(factor.information()), 1e-6))


def features(likelihood: Product, value: Latent) -> dict[str, Array]:
    """For every site (*shape of λ, F): the scores and, where a value may be far out, their inverse hyperbolic sine."""
    out = {}
    for name, factor in likelihood.factors.items():
        score = scores(factor, value[name])
        columns = [score] if factor.support() is not None else [score, jnp.arcsinh(score)]
        out[name] = jnp.stack(columns, axis=-1)
    return out


SHARES = " log π_k q(z | λ_k)"
"""Beside the sites' features: the log joint of each component's centre with z; no site has a name that is no word."""


SLOPE, INFORMATION = " slope of log q(z | λ)", " information on λ"
"""Beside the sites' features: the slope of log q(z | λ) in ψ at the prior's mean, and its Fisher information there."""
EXTRA = (SHARES, SLOPE, INFORMATION)


def flat(found: dict[str, Array]) -> Array:
    """All features in one vector."""
    return jnp.concatenate([jnp.reshape(found[name], -1) for name in sorted(found) if name not in EXTRA])


def expansion(likelihood: Product, scale: dict[str, Array], value: Latent) -> dict[str, Array]:
    """`SLOPE` and `INFORMATION` of factors whose drawn leaves are λ₀ + c ∘ ψ, each (D,), site by site."""
    slopes, information = [], []
    for name in sorted(likelihood.factors):
        factor, each = likelihood.factors[name], scale[name]

        def log_prob(place: Array, factor: AbstractFactor = factor, name: str = name) -> Array:
            return jnp.sum(with_drawn_leaf(factor, place).log_prob(value[name]))

        slopes.append(jnp.reshape(each * jax.grad(log_prob)(drawn_leaf(factor)), -1))
        information.append(jnp.reshape(each**2 * drawn_leaf(factor.information()), -1))
    return {SLOPE: jnp.concatenate(slopes), INFORMATION: jnp.concatenate(information)}


class Network:
    """Shapes and start of a network with one hidden layer: x -> V tanh(W x + b), V = 0."""

    @staticmethod
    def start(rng: np.random.Generator, inputs: int, width: int, outputs: int) -> dict[str, Array]:
        """Arrays at the start; the output is zero there."""
        return {
            "first": jnp.asarray(rng.normal(size=(width, inputs)) / np.sqrt(max(inputs, 1))),
            "bias": jnp.asarray(0.5 * rng.normal(size=width)),
            "last": jnp.asarray(np.zeros((outputs, width))),
        }

    @staticmethod
    def at(arrays: dict[str, Array], x: Array) -> Array:
        """The output."""
        return arrays["last"] @ jnp.tanh(arrays["first"] @ x + arrays["bias"])


def split_key(key: PRNGKey, names: Any) -> dict[str, PRNGKey]:
    """One key for each name."""
    return dict(zip(names, jr.split(key, len(names)), strict=True))
