"""Gradients of the bound of a model whose rows are independent given what they share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from jensen._amortised.family import Amortised, RowFactors
from jensen._amortised.model import Parts, RowModel
from jensen._base.typing import Array, PRNGKey, Scalar
from jensen._core import AbstractBound
from jensen._core.family import stopped
from jensen._estimators import LeaveOneOut

PROBES = 4
"""Hessian-vector products of a natural-gradient step."""
APART = 3
"""Folded into a key for the probes, which have to be independent of `split(key, 3)`: of the numbers below it."""


class Learned(eqx.Module):
    """q, an `Amortised` or what has its `rows` and `shared`, with the model's parameters, unconstrained, by name."""

    q: Any
    parameters: dict[str, Array]


class Drawn(NamedTuple):
    """Draws (groups, draws, rows, dim) of the rows and (groups, shared_dim) of what they share, and their factors."""

    point: Array
    shared: Array
    rows: RowFactors
    common: Any


class RowEstimator(eqx.Module):
    """L = E_q(β)[log p(β) - log q(β) + N/B Σ_n B_n], B_n the bound of row n given β, each from K draws of its own.

    Rows are reparameterised. For the ELBO the score part of log q is left out (`StickingTheLanding`), for other bounds
    it is reparameterised once more, which leaves ∂B/∂log w - ∂²B/∂(log w)² for q (Tucker et al. 2019, equation 8) while
    the model's parameters and β keep ∂B/∂log w. Codes with few joint states are summed over, B_n = Σ_c q(c) (...) with
    their entropy exact; others, and all under bounds that are not linear, are scored, each row by its own log weight
    against the row's other draws (`LeaveOneOut`: VIMCO for the importance-weighted bound).

    Attributes:
        groups: draws of β; per_row: draws of each row for each of them.
        states: joint states of the codes, site -> (states, *site), if they are summed over.
        scored: whether there are codes that are drawn.
    """

    groups: int = eqx.field(static=True)
    per_row: int = eqx.field(static=True)
    states: Mapping[str, Any] | None
    scored: bool = eqx.field(static=True)

    @property
    def num_draws(self) -> int:
        """Draws of each row."""
        return self.groups * self.per_row

    def gradient(
        self,
        bound: AbstractBound,
        model: RowModel,
        learned: Learned,
        data: Mapping[str, Array],
        scale: Any,
        key: PRNGKey,
    ) -> tuple[Scalar, Learned]:
        """The bound of these rows, each counting `scale` times, and its gradient: a tree like `learned`."""
        return self._all(bound, model, learned, data, scale, key, None)[:2]

    def natural(
        self,
        bound: AbstractBound,
        model: RowModel,
        learned: Learned,
        data: Mapping[str, Array],
        scale: Any,
        key: PRNGKey,
    ) -> tuple[Scalar, Learned, Array, Array]:
        """(bound, gradient, whitened slope in the mean of q(β), G of `AbstractNatural`), at the draws of `gradient`.

        The bound as a function of q(β) is E_q(β)[F(β)] with F taken at the rows' factors, and these depend on q(β) in
        the structured family. Of the first, ∇_Σ = ½ E[∇²F] (Price 1958): Hessian-vector products at the draws
        themselves, exact for up to `PROBES` coordinates and else with as many random signs. Differences of gradients by
        β's own noise would not do: they carry the noise of the rows, √(N/B) sds of q(β). Of the second, it is the
        chain rule. Their sum is the gradient of the bound, not only of its part at fixed factors.
        """
        dim = learned.q.shared.dim
        if dim <= PROBES:
            probes = jnp.eye(dim)
        else:
            probes = jr.rademacher(jr.fold_in(key, APART), (PROBES, dim), jnp.result_type(float)) / jnp.sqrt(PROBES)
        value, slope, images = self._all(bound, model, learned, data, scale, key, probes)
        pull, by_rows = learned.q.shared.whitened(slope.q.shared)
        return value, slope, pull, by_rows + learned.q.shared.excess(probes, images)

    def _all(
        self,
        bound: AbstractBound,
        model: RowModel,
        learned: Learned,
        data: Mapping[str, Array],
        scale: Any,
        key: PRNGKey,
        probes: Array | None,
    ) -> tuple[Scalar, Learned, Array]:
        """(bound, gradient, products of F's whitened Hessian with probes).

        With probes the draws of β pass on gradients to the mean of q(β) only: the products say the rest.
        """
        first, second, third = jr.split(key, 3)
        rows, dim = model.rows, model.layout.dim
        noise = jr.normal(first, (self.groups, self.per_row, rows, dim))
        shared_noise = jr.normal(second, (self.groups, learned.q.shared.noise_dim))

        def draw(q: Amortised, parameters: dict[str, Array]) -> Drawn:
            factors = q.rows(model, data, parameters)
            point = jax.vmap(jax.vmap(factors.transform))(noise)
            common = q.shared
            if probes is not None:
                common = eqx.tree_at(lambda s: s.loc, stopped(common), common.loc)
            return Drawn(point, jax.vmap(common.transform)(shared_noise), factors, q.shared)

        drawn, pull = jax.vjp(draw, learned.q, learned.parameters)
        keys = jr.split(third, (self.groups, self.per_row))
        codes = jax.vmap(jax.vmap(stopped(drawn.rows).draw_codes))(keys) if self.scored else {}

        def weights(drawn: Drawn, parameters: dict[str, Array]) -> tuple[Array, Array]:
            return self._weights(bound, model, drawn, codes, parameters)

        (log_w, common), back = jax.vjp(weights, drawn, learned.parameters)
        masses, masses_back = jax.vjp(self._log_masses, drawn.rows)
        value, (share, common_share, masses_share) = jax.value_and_grad(
            lambda w, c, m: self._total(bound, w, c, m, scale), argnums=(0, 1, 2)
        )(log_w, common, masses)
        to_drawn, to_parameters = back((share, common_share))
        if probes is not None:  # the score of q(β) has mean zero under every bound: they are linear in log q(β)
            to_drawn = to_drawn._replace(common=jax.tree.map(jnp.zeros_like, to_drawn.common))
        if bound.linear or not self.scored:
            to_drawn = _stuck(bound, to_drawn, log_w)
        rows_slope = to_drawn.rows
        if self.states is not None:
            rows_slope = _added(rows_slope, masses_back(masses_share)[0])
        if self.scored:
            _, score_back = jax.vjp(lambda f: jax.vmap(jax.vmap(f.codes_log_prob))(codes), drawn.rows)
            rows_slope = _added(rows_slope, score_back(scale * self._signal(bound, log_w))[0])
        to_q, by_q = pull(Drawn(to_drawn.point, to_drawn.shared, rows_slope, to_drawn.common))
        slope = Learned(to_q, _added(to_parameters, by_q))
        if probes is None or not probes.shape[0]:
            return value, slope, jnp.zeros((0, 0))

        def moved(shift: Array) -> Scalar:
            shared = jax.vmap(learned.q.shared.transform)(shared_noise + shift)
            return self._total(bound, *weights(drawn._replace(shared=shared), learned.parameters), masses, scale)

        return value, slope, _products(moved, probes)

    def _weights(
        self, bound: AbstractBound, model: RowModel, drawn: Drawn, codes: Any, parameters: dict[str, Array]
    ) -> tuple[Array, Array]:
        """(log weights (groups, draws, [states,] rows), terms of β (groups,))."""

        def one(shared: Array, point: Array, code: Any) -> tuple[Array, Array]:
            parts: Parts = model.parts(point, code, shared, parameters)
            latent = parts.latent - drawn.rows.log_prob(point)
            if self.scored:
                latent = latent - stopped(drawn.rows).codes_log_prob(code)
            common = parts.shared_observed + parts.shared_latent - drawn.common.log_prob(shared)
            return bound.joined(parts.observed, latent), common

        if self.states is None:
            log_w, common = jax.vmap(jax.vmap(one, (None, 0, 0)))(drawn.shared, drawn.point, codes)
            return log_w, common[:, 0]
        every = jax.vmap(one, (None, None, 0))
        log_w, common = jax.vmap(jax.vmap(every, (None, 0, None)), (0, 0, None))(drawn.shared, drawn.point, self.states)
        return log_w, common[:, 0, 0]

    def _log_masses(self, rows: RowFactors) -> Array:
        """log q of every joint state of the codes of each row, (states, rows)."""
        return jax.vmap(rows.codes_log_prob)(dict(self.states)) if self.states is not None else jnp.zeros(())

    def _total(self, bound: AbstractBound, log_w: Array, common: Array, masses: Array, scale: Any) -> Scalar:
        if self.states is not None:
            own = jnp.exp(masses) * (log_w + bound.joined(jnp.zeros(()), -masses))
            log_w = jnp.sum(own, axis=2)
        return jnp.mean(common + scale * jnp.sum(self._rows(bound, log_w), axis=1))

    def _rows(self, bound: AbstractBound, log_w: Array) -> Array:
        """The bound of each row given each β, (groups, rows)."""
        return jax.vmap(jax.vmap(bound.of_joined, 1))(log_w)

    def _signal(self, bound: AbstractBound, log_w: Array) -> Array:
        """What the score of each draw of each row is multiplied with, (groups, draws, rows)."""
        if bound.linear:
            flat = log_w.reshape(self.num_draws, -1)
            return LeaveOneOut().signal(bound, flat).reshape(log_w.shape)
        return jax.vmap(lambda w: LeaveOneOut().signal(bound, w))(log_w) / self.groups


def _stuck(bound: AbstractBound, slope: Drawn, log_w: Array) -> Drawn:
    """Through the draws alone: what comes through the density has mean zero, or is in `_kept`."""
    zero = jax.tree.map(jnp.zeros_like, (slope.rows, slope.common))
    point = slope.point if bound.linear else slope.point * _kept(bound, log_w)[..., None]
    return Drawn(point, slope.shared, *zero)


def _products(function: Callable[[Array], Scalar], probes: Array) -> Array:
    """The function's Hessian at zero, times each probe."""
    _, product = jax.linearize(jax.grad(function), jnp.zeros(probes.shape[1], probes.dtype))
    return jax.vmap(product)(probes)


def _kept(bound: AbstractBound, log_w: Array) -> Array:
    """1 - (∂²B/∂(log w)²) / (∂B/∂log w) of every draw: w̃ for the importance-weighted bound."""

    def one(w: Array) -> Array:
        share = jax.grad(bound.of_joined)(w)
        bent = jnp.diagonal(jax.hessian(bound.of_joined)(w))
        return 1.0 - bent / jnp.where(share > 0, share, 1.0)

    return jax.vmap(jax.vmap(one, 1, 1))(log_w)


def _added(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
