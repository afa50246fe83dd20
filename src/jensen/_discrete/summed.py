"""The log joint with its discrete latents summed out, and what it says about them: marginals and exact draws."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from numpyro import handlers

from jensen._base.typing import Flat, Latent, PRNGKey, Terms
from jensen._discrete.eliminate import eliminate
from jensen._discrete.program import Piece, pieces_of
from jensen._discrete.reduce import Reduce, log_sum, sampling_log_sum
from jensen._discrete.table import full
from jensen._program.number_widths import seeded

if TYPE_CHECKING:
    from jensen._model.numpyro import NumPyroModel


def log_terms(model: "NumPyroModel", latent: Latent, weights: Mapping[str, Any] | None = None) -> Terms:
    """log Σ_z p(x, z, θ) in nats, in parts: a site that depends on no discrete latent by itself, others together.

    A joint part carries the names of its sites, `z + y`, and keeps the plates in which its latents live. `weights` are
    extra log weights (K, *shape) for every value of every entry of discrete latents.
    """
    pieces, scales = _pieces(model, latent, weights or {})
    pieces = eliminate(pieces, _layout(model), scales, log_sum, None)
    return {" + ".join(piece.names): full(piece.table, piece.shape).array for piece in pieces}


def _layout(model: "NumPyroModel") -> Any:
    assert model.discrete is not None
    return model.discrete


def _pieces(model: "NumPyroModel", latent: Latent, potentials: Mapping[str, Any]) -> Any:
    layout = _layout(model)
    pieces, scales = pieces_of(model.fn, model.data, model.fixed.value, latent, layout)
    own = {piece.names[0]: piece for piece in pieces}
    for name, values in potentials.items():
        for table in layout.sites[name].potential(values):
            shape = layout.sites[name].shape if table.natural else ()
            pieces.append(Piece((name,), table, shape, own[name].scale))
    return pieces, scales


def _weights(model: "NumPyroModel", point: Flat, reduce: Reduce, key: Any) -> dict[str, Any]:
    """Derivatives of the log sum in extra log weights for every value of every discrete latent: (K, *shape) each."""
    latent, _ = model.bijection.forward(point)
    dtype = jnp.result_type(float)
    zeros = {name: jnp.zeros((len(site.values), *site.shape), dtype) for name, site in _layout(model).sites.items()}

    def total(potentials: dict[str, Any]) -> Any:
        pieces, scales = _pieces(model, latent, potentials)
        pieces = eliminate(pieces, _layout(model), scales, reduce, key)
        # Only the parts that hold discrete latents have a derivative; a part's rows may stand for many (size one).
        return sum(jnp.sum(full(piece.table, piece.shape).array) for piece in pieces)

    return jax.grad(total)(zeros)


def marginals(model: "NumPyroModel", point: Flat) -> dict[str, Any]:
    """p(z = value | θ, x) of every entry of every discrete latent, exactly: site -> (*shape, K)."""
    weights = _weights(model, point, log_sum, None)
    return {name: jnp.moveaxis(one / jnp.sum(one, 0), 0, -1) for name, one in weights.items()}


def complete(model: "NumPyroModel", point: Flat, key: PRNGKey) -> Latent:
    """One exact draw of all discrete latents from p(z | θ, x), and the deterministic sites that depend on them."""
    layout = _layout(model)
    weights = _weights(model, point, sampling_log_sum, key)
    values = {name: jnp.asarray(site.values, int) for name, site in layout.sites.items()}
    drawn = {name: values[name][jnp.argmax(one, 0)] for name, one in weights.items()}
    if not layout.computed:
        return drawn
    latent, _ = model.bijection.forward(point)
    program = handlers.substitute(seeded(model.fn), data={**latent, **drawn})
    trace = handlers.trace(program).get_trace(**model.kwargs)
    return {**drawn, **{name: trace[name]["value"] for name in layout.computed}}
