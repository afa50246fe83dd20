"""The native family of a support, and where it starts."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpyro.distributions import biject_to, constraints

from jensen._base.errors import ModelError
from jensen._families.native.circular import VonMises
from jensen._families.native.contract import SMALL, AbstractFactor
from jensen._families.native.discretised import DiscretisedNormal
from jensen._families.native.finite import Bernoulli, Categorical
from jensen._families.native.positive import Beta, Dirichlet, Gamma
from jensen._families.native.product import Product
from jensen._families.native.real import Normal, Transformed
from jensen._program.static_arguments import Frozen

LARGEST = 100_000
"""Values of a finite range beyond which it is not given a table of logits."""


def _full(shape: tuple[int, ...], value: Any = 0.0) -> Any:
    """Made in NumPy: an array of each shape would compile a program in JAX."""
    return jnp.asarray(np.full(shape, value, float))


def _real(site: Any, support: Any) -> AbstractFactor:
    del support
    return Normal(_full(site.shape), _full(site.shape, -1.0))


def _above(site: Any, support: Any) -> AbstractFactor:
    low = float(getattr(support, "lower_bound", 0.0))
    return Gamma(_full(site.shape), _full(site.shape, 1.0), low)


def _between(site: Any, support: Any) -> AbstractFactor:
    low, high = float(getattr(support, "lower_bound", 0.0)), float(getattr(support, "upper_bound", 1.0))
    return Beta(_full(site.shape), _full(site.shape, np.log(4.0)), low, high - low)


def _simplex(site: Any, support: Any) -> AbstractFactor:
    del support
    rows, k = site.shape[:-1], site.shape[-1]
    return Dirichlet(_full((*rows, k - 1)), _full(rows, np.log(2.0 * k)))


def _circle(site: Any, support: Any) -> AbstractFactor:
    del support
    return VonMises(_full(site.shape), _full(site.shape))


def _bits(site: Any, support: Any) -> AbstractFactor:
    del support
    return Bernoulli(_full(site.shape))


def _range(site: Any, support: Any) -> AbstractFactor:
    low, high = int(np.min(support.lower_bound)), int(np.max(support.upper_bound))
    if np.ndim(support.lower_bound) or np.ndim(support.upper_bound):
        lows, highs = np.unique(support.lower_bound), np.unique(support.upper_bound)
        if len(lows) > 1 or len(highs) > 1:
            raise ModelError(
                f"The values of '{site.name}' range over different sets in different rows.",
                f"Site '{site.name}', shape {site.shape}, from {lows} to {highs}.",
                "Give each range a site of its own.",
            )
    if high - low < SMALL:
        return Categorical(_full((*site.shape, high - low + 1)), low)
    if high - low < LARGEST:
        middle = _full(site.shape, 0.5 * np.pi * np.sqrt(high - low + 1.0))
        return DiscretisedNormal(middle, _full(site.shape, 1.0), low, high - low)
    raise ModelError(
        f"The latent site '{site.name}' ranges over {high - low + 1} values.",
        f"Site '{site.name}', shape {site.shape}.",
        "Give it a family: jn.bbvi(families={...}).",
    )


def _counts(site: Any, support: Any) -> AbstractFactor:
    bound: Any = getattr(support, "lower_bound", 0)
    return DiscretisedNormal(_full(site.shape, 2.0), _full(site.shape), bound if np.ndim(bound) else int(bound))


_FAMILIES: tuple[tuple[tuple[Any, ...], Callable[[Any, Any], AbstractFactor]], ...] = (
    ((constraints.real,), _real),
    ((constraints.circular,), _circle),
    ((constraints.boolean,), _bits),
    ((constraints.simplex,), _simplex),
    ((constraints.positive, constraints.nonnegative, constraints.softplus_positive), _above),
    ((constraints.greater_than, constraints.greater_than_eq), _above),
    ((constraints.unit_interval, constraints.interval, constraints.open_interval), _between),
    ((constraints.integer_interval,), _range),
    ((constraints.nonnegative_integer, constraints.positive_integer, constraints.integer_greater_than), _counts),
)
_KINDS: dict[Any, Callable[[Any, Any], AbstractFactor]] = {
    kind if isinstance(kind, type) else type(kind): make for kinds, make in _FAMILIES for kind in kinds
}


def native_factor(site: Any, support: Any = None) -> AbstractFactor:
    """A factor on a latent site's support at its starting values.

    Real -> normal; positive, bounded, simplex and circular -> gamma, beta, Dirichlet and von Mises; every other
    continuous support -> a normal behind NumPyro's own bijection. Booleans -> Bernoulli; a range of integers ->
    categorical, or a discretised normal where it is long; counts without an upper end -> a discretised normal.

    Raises a `ModelError` for a discrete support without a family.
    """
    support = site.support if support is None else support
    inner: Any = support
    while isinstance(inner, constraints.independent) or hasattr(inner, "base_constraint"):
        inner = inner.base_constraint
    make = _KINDS.get(type(inner))
    bounds = [getattr(inner, name, 0.0) for name in ("lower_bound", "upper_bound")]
    fixed = all(np.ndim(bound) == 0 for bound in bounds)
    if make is not None and (fixed or make in (_range, _counts)):
        return make(site, inner)
    if support.is_discrete:
        raise ModelError(
            f"There is no family for the support of '{site.name}' ({site.distribution}, {support}).",
            f"Site '{site.name}', shape {site.shape}.",
            "Families exist for booleans, ranges of integers and counts; write the site in terms of these.",
        )
    transform = biject_to(support)
    shape = tuple(transform.inverse_shape(site.shape))
    axes = len(shape) - (len(site.shape) - support.event_dim)
    return Transformed(_full(shape), _full(shape, -1.0), Frozen({"transform": transform}), axes)


def native_product(latents: list[Any], supports: Mapping[str, Any] | None = None) -> Product:
    """One native factor for each latent site; `supports` overrides those whose bounds are data."""
    known = supports or {}
    return Product({site.name: native_factor(site, known.get(site.name)) for site in latents})
