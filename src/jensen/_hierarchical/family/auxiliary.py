"""Auxiliary densities r(ψ | z; φ): the reverse of the variational model, from the latents back to their parameters."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.linalg as jsl
import numpy as np

from jensen._base.typing import Array, Flat, PRNGKey, Scalar
from jensen._families.gaussian import normal_log_prob
from jensen._hierarchical.family.features import Network, flat

WHOLE = "auxiliary"
"""The term of an auxiliary density that looks at all latents at once."""
WIDTH = 32


class AbstractAuxiliary(eqx.Module):
    """r(ψ | z; φ) on R^D. `found` are the features of z by site, see `jensen._hierarchical.family.features`.

    Attributes:
        local: whether log r is a sum of terms that see one site each.
        by_component: whether it asks for `features.SHARES`, which only a mixture prior has.
        expands: whether it asks for `features.SLOPE` and `features.INFORMATION`, at the mean of the prior.
        follows: whether it depends on the prior itself, its own parameters being corrections.
    """

    local: eqx.AbstractClassVar[bool]
    by_component: ClassVar[bool] = False
    expands: ClassVar[bool] = False
    follows: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """D."""

    @abc.abstractmethod
    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """log r(ψ | z) in nats, by term; a term of one site has the shape of the site's rows."""

    @abc.abstractmethod
    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """ψ ~ r, reparameterised, and the log density of a choice that was not (zero where there is none)."""

    def at(self, batch: Any) -> "AbstractAuxiliary":
        """r of a batch's rows; one that is not row by row stays as it is."""
        del batch
        return self

    def put(self, part: Any, batch: Any) -> Any:
        """r with what `at(batch)` gave replaced by `part`."""
        del batch
        return part

    def scores(self, prior: Any) -> bool:
        """Whether its draws hold a choice that is scored."""
        del prior
        return False


class PriorAuxiliary(AbstractAuxiliary):
    """r(ψ | z) = q(ψ): semi-implicit variational inference (Yin and Zhou 2018); looser, nothing to train."""

    local: ClassVar[bool] = False
    size: int = eqx.field(static=True)

    @property
    def dim(self) -> int:
        """D."""
        return self.size

    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """log q(ψ)."""
        del found
        return {WHOLE: prior.log_prob(point)}

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """A draw of the prior."""
        del found
        draw = prior.draw(key)
        return draw.value, sum(jax.tree.leaves(draw.log_score), start=jnp.zeros(()))

    def scores(self, prior: Any) -> bool:
        """Where the prior has components."""
        return prior.num_strata > 1


class Factorised(AbstractAuxiliary):
    """r(ψ | z) = Π_i N(ψ_i; a_i + b_i·f(z_i), exp(c_i + d_i·f(z_i))²): each ψ_i from its own row of its own site.

    Its terms are local, so that the learning signal of a latent is; it cannot say that the ψ depend on each other
    given z, which costs bound where the prior correlates them.

    Attributes:
        mean, log_scale: site -> (*rows, E, 1 + E·F), E the entries of λ that belong to one row.
    """

    local: ClassVar[bool] = True
    mean: dict[str, Array]
    log_scale: dict[str, Array]

    @classmethod
    def start(cls, shapes: dict[str, tuple[int, ...]], rows: dict[str, int], columns: dict[str, int]) -> "Factorised":
        """The standard normal. `rows` are the numbers of leading axes that are rows."""
        sizes = {n: (*s[: rows[n]], int(np.prod(s[rows[n] :], dtype=int))) for n, s in shapes.items()}
        zeros = {n: jnp.zeros((*s, 1 + s[-1] * columns[n])) for n, s in sizes.items()}
        return cls(zeros, dict(zeros))

    @property
    def dim(self) -> int:
        """D."""
        return sum(int(np.prod(x.shape[:-1], dtype=int)) for x in self.mean.values())

    def _normals(self, found: dict[str, Array]) -> dict[str, tuple[Array, Array]]:
        out = {}
        for name, weights in self.mean.items():
            inputs = jnp.reshape(found[name], (*weights.shape[:-2], 1, -1))
            inputs = jnp.concatenate([jnp.ones_like(inputs[..., :1]), inputs], axis=-1)
            out[name] = tuple(jnp.sum(w * inputs, axis=-1) for w in (weights, self.log_scale[name]))
        return out

    def _cut(self, point: Flat) -> dict[str, Array]:
        out, start = {}, 0
        for name in sorted(self.mean):
            shape = self.mean[name].shape[:-1]
            size = int(np.prod(shape, dtype=int))
            out[name] = point[start : start + size].reshape(shape)
            start += size
        return out

    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """One term for each site, over its rows."""
        del prior
        parts, normals = self._cut(point), self._normals(found)
        out = {}
        for name, (mean, log_scale) in normals.items():
            z = (parts[name] - mean) * jnp.exp(-log_scale)
            out[f"{WHOLE} of {name}"] = jnp.sum(-0.5 * z**2 - log_scale - 0.5 * np.log(2 * np.pi), axis=-1)
        return out

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """a + b·f + exp(c + d·f) ε."""
        del prior
        normals = self._normals(found)
        mean = jnp.concatenate([jnp.reshape(normals[n][0], -1) for n in sorted(normals)])
        log_scale = jnp.concatenate([jnp.reshape(normals[n][1], -1) for n in sorted(normals)])
        return mean + jnp.exp(log_scale) * jr.normal(key, mean.shape, mean.dtype), jnp.zeros(())


class Gaussian(AbstractAuxiliary):
    """r(ψ | z) = N(ψ; b + W f(z) + net(z), S(z) S(z)ᵀ), S(z) = diag(exp net'(z)) L: all of z, one Gaussian.

    Exact for a Gaussian prior over the means of Gaussian latents. `net` has one hidden layer and begins at zero.
    """

    local: ClassVar[bool] = False
    bias: Array
    weight: Array
    log_diagonal: Array
    lower: Array
    network: dict[str, Array]

    @classmethod
    def start(cls, dim: int, inputs: int, seed: int, width: int = WIDTH) -> "Gaussian":
        """The standard normal."""
        network = Network.start(np.random.default_rng(seed), inputs, width, 2 * dim)
        return cls(jnp.zeros(dim), jnp.zeros((dim, inputs)), jnp.zeros(dim), jnp.zeros((dim, dim)), network)

    @property
    def dim(self) -> int:
        """D."""
        return self.bias.shape[0]

    def _parts(self, found: dict[str, Array]) -> tuple[Array, Array, Array]:
        x = flat(found)
        bent = Network.at(self.network, x)
        stretch = bent[self.dim :]
        root = jnp.tril(self.lower, -1) + jnp.diag(jnp.exp(self.log_diagonal))
        return self.bias + self.weight @ x + bent[: self.dim], jnp.exp(stretch)[:, None] * root, stretch

    def whiten(self, point: Flat, found: dict[str, Array]) -> tuple[Flat, Scalar]:
        """S(z)⁻¹ (ψ - mean) and log det S."""
        mean, root, stretch = self._parts(found)
        whitened = jsl.solve_triangular(root, point - mean, lower=True)
        return whitened, jnp.sum(self.log_diagonal) + jnp.sum(stretch)

    def colour(self, whitened: Flat, found: dict[str, Array]) -> Flat:
        """The inverse of `whiten`."""
        mean, root, _ = self._parts(found)
        return mean + root @ whitened

    def log_probs(self, point: Flat, found: dict[str, Array], prior: Any) -> dict[str, Array]:
        """One term."""
        del prior
        return {WHOLE: normal_log_prob(*self.whiten(point, found))}

    def draw(self, key: PRNGKey, found: dict[str, Array], prior: Any) -> tuple[Flat, Scalar]:
        """mean + S ε."""
        del prior
        return self.colour(jr.normal(key, (self.dim,), self.bias.dtype), found), jnp.zeros(())
