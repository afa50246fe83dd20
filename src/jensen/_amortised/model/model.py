"""The log joint of some rows, row by row, as a function of their latents, the shared latents and the parameters."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from jensen._amortised.model.layout import RowLayout
from jensen._base.typing import Array, Scalar, Terms
from jensen._core import total
from jensen._model.numpyro import NumPyroModel
from jensen._model.parameters import LEARNED, Charts


class Parts(NamedTuple):
    """log p(x, z, β) in nats, over unconstrained coordinates.

    Attributes:
        observed: of each row, its observations and factors given everything, (rows,).
        latent: of each row, its latents' prior with the Jacobian, (rows,).
        shared_observed, shared_latent: of everything outside the plate.
    """

    observed: Array
    latent: Array
    shared_observed: Scalar
    shared_latent: Scalar


class RowModel(eqx.Module):
    """A NumPyro program on a number of rows that its data fix.

    `model` holds the data of these rows; `charts` are those of the parameters, whose unconstrained values are given at
    every call. `layout` says where rows lie.
    """

    model: NumPyroModel
    layout: RowLayout = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    charts: Charts = eqx.field(static=True)

    def at(self, data: dict[str, Any]) -> "RowModel":
        """The same program on other rows of the same number."""
        return eqx.tree_at(lambda m: m.model.data, self, {**self.model.data, **data})

    def values(self, point: Array, codes: dict[str, Array], shared: Array) -> tuple[dict[str, Array], Array, Scalar]:
        """(site -> value on its support, log |det| by row, log |det| of the shared latents)."""
        own, log_det = self.layout.values(point)
        common, shared_log_det = self.layout.shared_values(shared)
        return {**own, **codes, **common}, log_det, shared_log_det

    def known(self, parameters: dict[str, Array]) -> NumPyroModel:
        """The program at these unconstrained parameters."""
        if not self.charts.supports:
            return self.model
        values = self.charts.values(parameters)
        return eqx.tree_at(lambda m: m.data, self.model, {**self.model.data, LEARNED: values})

    def terms(self, point: Array, codes: dict[str, Array], shared: Array, parameters: dict[str, Array]) -> Terms:
        """Elementwise log densities site by site; arguments as those of `parts`."""
        return self.known(parameters).log_joint(self.values(point, codes, shared)[0])

    def parts(self, point: Array, codes: dict[str, Array], shared: Array, parameters: dict[str, Array]) -> Parts:
        """The log joint at (rows, dim) row coordinates, discrete values by site, and (shared_dim,) shared ones."""
        latent, log_det, shared_log_det = self.values(point, codes, shared)
        terms = self.known(parameters).log_joint(latent)
        observed, own = jnp.zeros(self.rows, point.dtype), log_det
        outside: dict[bool, list[Array]] = {True: [], False: []}
        for name, term in terms.items():
            seen = name in self.layout.observed
            if name not in self.layout.inside:
                outside[seen].append(term)
            elif seen:
                observed = observed + self.layout.by_row(term, self.rows)
            else:
                own = own + self.layout.by_row(term, self.rows)
        return Parts(observed, own, total(outside[True]), total(outside[False]) + shared_log_det)

    def prior_potential(
        self, codes: dict[str, Array], shared: Array, parameters: dict[str, Array]
    ) -> tuple[Array, Array]:
        """The Gaussian prior of each row's continuous latents given codes and β, exp(zᵀ η - ½ zᵀ Λ z): (η, Λ).

        η (rows, dim) and Λ (rows, dim, dim) are the gradient and the negative Hessian of the log prior at the origin.
        """
        dim = self.layout.dim

        def prior(point: Array) -> Scalar:
            return jnp.sum(self.parts(point, codes, shared, parameters).latent)

        linear, bent = jax.linearize(jax.grad(prior), jnp.zeros((self.rows, dim)))
        columns = jax.vmap(lambda unit: bent(jnp.broadcast_to(unit, (self.rows, dim))))(jnp.eye(dim))
        return linear, -jnp.moveaxis(columns, 0, 2)
