"""The joint factor of several discrete latents: exact marginals by elimination (forward-backward on a chain)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, PRNGKey
from jensen._families.exponential.contract import AbstractExponentialFactor, Natural


class DiscreteJoint(AbstractExponentialFactor):
    """q(z_1, ..., z_T) ∝ exp Σ_C θ_C(z_C): cliques C of sites, t = indicators of their joint values.

    A = log Σ exp Σ_C θ_C, by eliminating the sites in order, in log space; its gradient gives the clique marginals.
    The cost is exponential in the width of the elimination: 2 for a chain in its own order.

    Attributes:
        natural: clique name -> log potential, shape (independent axes, K of each site of the clique).
        cliques: clique name -> positions of its sites; supports: the values of every site.
    """

    natural: Natural
    cliques: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    supports: tuple[Array | np.ndarray, ...]

    def _eliminated(self) -> tuple[Array, list[tuple[int, tuple[int, ...], Array]]]:
        """(A, [(site, its later neighbours, log table over (neighbours, site))] in order of elimination)."""
        factors = [(sites, self.natural[name]) for name, sites in self.cliques]
        batch = factors[0][1].ndim - len(factors[0][0])
        shape = factors[0][1].shape[:batch]
        total, steps = jnp.zeros(shape), []
        for site in range(len(self.supports)):
            mine = [f for f in factors if site in f[0]]
            factors = [f for f in factors if site not in f[0]]
            around = tuple(sorted({s for sites, _ in mine for s in sites} - {site}))
            scope = (*around, site)
            table = jnp.zeros((*shape, *(len(self.supports[s]) for s in scope)))
            for sites, potential in mine:
                table = table + _spread(potential, sites, scope, batch)
            steps.append((site, around, table))
            message = jax.nn.logsumexp(table, -1)
            if around:
                factors.append((around, message))
            else:
                total = total + message
        return total, steps

    def log_normalizer(self) -> Array:
        """A(η)."""
        return self._eliminated()[0]

    def mean_params(self) -> Natural:
        """The clique marginals, ∇A."""

        def total(natural: Natural) -> Array:
            return jnp.sum(DiscreteJoint(natural, self.cliques, self.supports).log_normalizer())

        return jax.grad(total)(self.natural)

    def statistics(self, *values: Array) -> Natural:
        """Indicators of the joint value of each clique."""
        ones = [(v[..., None] == s) * 1.0 for v, s in zip(values, self.supports, strict=True)]
        result = {}
        for name, sites in self.cliques:
            table = jnp.ones(())
            for i, site in enumerate(sites):
                shape = ones[site].shape
                table = table * ones[site].reshape(shape[:-1] + (1,) * i + shape[-1:] + (1,) * (len(sites) - 1 - i))
            result[name] = table
        return result

    def draw(self, key: PRNGKey) -> tuple[Array, ...]:
        """The last site eliminated first, each given its later neighbours (backward sampling on a chain)."""
        places: dict[int, Array] = {}
        for i, (site, around, table) in enumerate(reversed(self._eliminated()[1])):
            for neighbour in around:
                batch = places[neighbour].ndim
                index = places[neighbour].reshape(places[neighbour].shape + (1,) * (table.ndim - batch))
                table = jnp.squeeze(jnp.take_along_axis(table, index, axis=batch), batch)
            places[site] = jax.random.categorical(jax.random.fold_in(key, i), table, -1)
        return tuple(jnp.asarray(s)[places[i]] for i, s in enumerate(self.supports))

    def contains(self) -> Array:
        """Some joint value has positive probability."""
        return jnp.isfinite(self.log_normalizer())

    def probs(self) -> tuple[Array, ...]:
        """The marginal probabilities of every site, shape (independent axes, K)."""
        moments = self.mean_params()
        result: dict[int, Array] = {}
        for name, sites in self.cliques:
            batch = moments[name].ndim - len(sites)
            for i, site in enumerate(sites):
                others = tuple(batch + j for j in range(len(sites)) if j != i)
                result.setdefault(site, jnp.sum(moments[name], others))
        return tuple(result[i] for i in range(len(self.supports)))

    def means(self) -> tuple[Array, ...]:
        """Σ v p(v) of every site."""
        return tuple(p @ jnp.asarray(s, p.dtype) for p, s in zip(self.probs(), self.supports, strict=True))

    def variances(self) -> tuple[Array, ...]:
        """Σ v² p(v) - mean² of every site."""
        squares = (p @ jnp.asarray(s, p.dtype) ** 2 for p, s in zip(self.probs(), self.supports, strict=True))
        return tuple(sq - m**2 for sq, m in zip(squares, self.means(), strict=True))


def _spread(potential: Array, sites: tuple[int, ...], scope: tuple[int, ...], batch: int) -> Array:
    """A potential with its axes in the order of `scope`, of length 1 where it does not vary."""
    order = sorted(range(len(sites)), key=lambda i: scope.index(sites[i]))
    moved = jnp.transpose(potential, [*range(batch), *(batch + i for i in order)])
    sizes = {sites[i]: potential.shape[batch + i] for i in order}
    return moved.reshape((*potential.shape[:batch], *(sizes.get(s, 1) for s in scope)))
