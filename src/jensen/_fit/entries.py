"""A model run forward at draws of its posterior, latents with new entries completed from the law of the model.

Entries that are independent of the fitted ones given what lies above them are drawn as the program runs. Those of one
joint law, or tied to the fitted ones by factors of the program, have density p(t | rest) in their new entries t: where
log p is quadratic, with gradient g at t = 0 and curvature -H, they are Normal(H^-1 g, H^-1).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers

from jensen._base.errors import UndefinedError
from jensen._fit.levels import Change

LIMIT = 4000
"""New entries of one joint law at most: their curvature is a dense matrix."""


@dataclass(frozen=True)
class Forward:
    """A program without its observations, and the entries that its latents lack; calls give draws of `names`."""

    fn: Callable[..., Any]
    changes: Mapping[str, Change]
    observed: Sequence[str]
    factors: Sequence[str]

    @property
    def coupled(self) -> dict[str, Change]:
        """The latents whose new entries are drawn all at once."""
        return {name: change for name, change in self.changes.items() if change.coupled and len(change.fresh)}

    def __call__(self, key: Any, draw: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """Observed sites and completed latents at one draw, and whether joint laws of new entries are Gaussian."""
        tails = {name: jnp.zeros(len(change.fresh)) for name, change in self.coupled.items()}
        gaussian = jnp.asarray(True)
        if tails:
            tails, gaussian = self._drawn(key, draw, arguments, tails)
        trace = self._trace(key, draw, arguments, tails, ())
        return {name: trace[name]["value"] for name in (*self.observed, *self.changes)}, gaussian

    def _drawn(self, key: Any, draw: Any, arguments: Any, start: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """New entries of the joint laws, drawn at once, and whether their density is that of a Gaussian."""
        origin, back = ravel_pytree(start)
        gradient = jax.grad(lambda t: self._density(key, draw, arguments, back(t)))
        g, H = gradient(origin), -jax.jacfwd(gradient)(origin)
        factor = jnp.linalg.cholesky((H + H.T) / 2)
        mean = jax.scipy.linalg.cho_solve((factor, True), g)
        noise = jax.random.normal(jax.random.fold_in(key, zlib.crc32(b"new entries")), g.shape, g.dtype)
        found = mean + jax.scipy.linalg.solve_triangular(factor, noise, trans=1, lower=True)
        off = jnp.abs(gradient(found) - (g - H @ found)).max()
        scale = jnp.abs(g).max() + (jnp.abs(H) @ jnp.abs(found)).max()
        return back(found), off <= 1e-3 * scale  # false for NaN, too

    def _density(self, key: Any, draw: Any, arguments: Any, tails: dict[str, Any]) -> Any:
        """The log density of the joint laws and of the factors."""
        trace = self._trace(key, draw, arguments, tails, self.observed)
        sites = [trace[name] for name in (*self.coupled, *self.factors) if name in trace]
        return sum(jnp.sum(site["fn"].log_prob(site["value"])) for site in sites)

    def _trace(self, key: Any, draw: Any, arguments: Any, tails: dict[str, Any], still: Sequence[str]) -> Any:
        """One run; the sites `still` are not drawn."""

        def value(site: dict[str, Any]) -> Any:
            name = site["name"]
            if site["type"] != "sample":
                return None
            if name in still:
                return jnp.zeros(site["fn"].shape())
            if name not in draw or name not in self.changes:
                return draw.get(name)
            change = self.changes[name]
            if change.coupled:
                if change.scanned:
                    raise _unknown(name, "its steps are not independent of each other given the one before")
                blank = jnp.zeros(int(np.prod(change.shape))).at[change.fresh].set(tails.get(name, 0.0))
                return _filled(change.places, draw[name], blank.reshape(change.shape))
            return _completed(change, draw[name], site, key)

        program = handlers.substitute(handlers.uncondition(self.fn), substitute_fn=value)
        return handlers.trace(handlers.seed(program, key)).get_trace(**arguments)


def _completed(change: Change, given: Any, site: dict[str, Any], key: Any) -> Any:
    """A latent with independent entries; of a scan's, the steps that the fit has: the scan draws those beyond."""
    own = site["kwargs"].get("rng_key")
    key = jax.random.fold_in(key, zlib.crc32(site["name"].encode())) if own is None else own
    places = change.places
    if not change.scanned and not len(change.fresh):
        return given[np.ix_(*places)]
    if not change.scanned:
        return _filled(places, given, _sampled(site, key))
    given = given[: len(places[0])]
    if all(len(place) == size for place, size in zip(places[1:], change.shape[1:], strict=True)):
        return given[(slice(None), *np.ix_(*places[1:]))]
    fresh = _sampled(site, key)
    return _filled((np.arange(len(given)), *places[1:]), given, jnp.broadcast_to(fresh, (len(given), *fresh.shape)))


def _sampled(site: dict[str, Any], key: Any) -> Any:
    try:
        return site["fn"](rng_key=key)
    except NotImplementedError as error:
        raise _unknown(site["name"], "its prior is improper") from error


def _filled(places: Sequence[np.ndarray], given: Any, new: Any) -> Any:
    """The fit's entries where they stand, new ones elsewhere."""
    index = np.ix_(*places)
    return jnp.asarray(new).at[index].set(given[index])


def refuse_large(changes: Mapping[str, Change]) -> None:
    """Raise where a joint law has more new entries than their curvature has room for."""
    sizes = {name: len(change.fresh) for name, change in changes.items() if change.coupled}
    if sum(sizes.values()) > LIMIT:
        name = max(sizes, key=lambda name: sizes[name])
        raise UndefinedError(
            f"New entries of one joint law are drawn with a dense matrix, up to {LIMIT:,} of them.",
            f"Site '{name}', {sizes[name]:,} new entries.",
            "Predict in parts: the inputs of the fit and some of the new ones after them.",
        )


def refuse_other_laws(changes: Mapping[str, Change], gaussian: np.ndarray) -> None:
    """Raise where the new entries of a joint law are not Gaussian given the fitted ones."""
    if not np.all(gaussian):
        name = next(name for name, change in changes.items() if change.coupled and len(change.fresh))
        raise _unknown(name, "their law given the fitted ones is not Gaussian")


def _unknown(name: str, why: str) -> UndefinedError:
    return UndefinedError(
        f"The new entries of '{name}' cannot be drawn: {why}.",
        f"Site '{name}'.",
        "Fit with these entries in the model and no outcomes for them; their posterior is what is asked for.",
    )
