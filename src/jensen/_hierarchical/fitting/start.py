"""Where a hierarchical fit begins: λ around the starting product, in units of its information."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.errors import OptionError, nearest
from jensen._core import AbstractDensity
from jensen._families import Flow, FullRank, LowRank, MeanField, Mixture
from jensen._families.native import Product
from jensen._hierarchical import family as h
from jensen._hierarchical.family.features import drawn_leaf, features
from jensen._hierarchical.fitting.scouts import Sighted
from jensen._math.readout import readout

PRIORS = ("full_rank", "low_rank", "mean_field", "mixture", "flow")
AUXILIARIES = ("factorised", "gaussian", "mixture", "flow", "prior")
DEFAULTS = {"full_rank": "gaussian", "low_rank": "gaussian", "mean_field": "factorised"}
WIDTH = 0.1
"""Sd of a component of a mixture prior at the start, in units of the factors' information."""
OF_ROWS = 0.5
"""Likewise of a row's prior: mean field is a saddle, of which the slope grows with the width."""
LEAST, FURTHER = -4.0, -1.0
"""Logits, from the best one's, at which a component at an optimum begins at least, and the further ones begin."""
DENSE = 64
"""Entries of λ up to which covariances are full by default."""


def check_names(prior: Any, auxiliary: Any, num_components: int) -> None:
    """Refuse what can be refused without a model."""
    for kind, given, known, cls in (
        ("prior", prior, PRIORS, AbstractDensity),
        ("auxiliary", auxiliary, AUXILIARIES, h.AbstractAuxiliary),
    ):
        if given is None or isinstance(given, cls):
            continue
        if not isinstance(given, str) or given not in known:
            raise OptionError(f"There is no {kind} {given!r}.", f"Option: {kind} of hvm.", nearest(str(given), known))
    if prior == "mixture" and num_components < 2:
        raise OptionError(
            f"A mixture of {num_components} component is no mixture.",
            "Option: num_components of hvm.",
            "Take at least 2, or prior='full_rank'.",
        )


def starting_family(
    product: Product, prior: Any, auxiliary: Any, num_components: int, importance: int, seed: int, spread: float = 1.0
) -> h.Hierarchical:
    """λ₀ the product's own, c one over the root of its information; prior and r the same before the first step.

    `spread` says how far from λ₀ the components of a mixture prior begin, in units of c.
    """
    scale = _scales(product)
    dim = sum(int(np.size(c)) for c in scale.values())
    kind = prior if prior is not None else ("mixture" if dim <= DENSE else "low_rank")
    found: Any = _prior(kind, dim, num_components, seed, spread) if isinstance(kind, str) else kind
    _same_size("prior", found, int(found.dim), dim)
    inputs = jax.eval_shape(lambda: features(product, _example(product)))
    form = auxiliary if auxiliary is not None else _default(kind, found, dim)
    reverse = _auxiliary(form, found, product, inputs, dim, seed) if isinstance(form, str) else form
    _same_size("auxiliary", reverse, int(reverse.dim), dim)
    return h.Hierarchical(product, scale, found, reverse, importance)


def _scales(product: Product) -> dict[str, Any]:
    """Site -> c, one over the root of the information of the leaf that is drawn."""
    scale = {}
    for name, information in _informations(product).items():
        information = np.asarray(information, float)
        scale[name] = jnp.asarray(np.clip(1.0 / np.sqrt(np.maximum(information, 1e-12)), 1e-6, 3.0))
    return scale


@readout
def _informations(product: Product) -> dict[str, Any]:
    """Site -> information of the leaf that is drawn."""
    return {name: drawn_leaf(factor.information()) for name, factor in product.factors.items()}


def by_rows(
    product: Product, axes: Mapping[str, int], importance: int, seed: int, auxiliary: Any = None, inputs: Any = None
) -> h.Hierarchical:
    """λ of each row by itself, close to the product: `axes` says along which axis of each site the rows lie.

    With `inputs`, (rows, F), the prior is amortised over them.
    """
    scale = _scales(product)
    names = sorted(product.factors)
    shapes = {name: tuple(np.shape(scale[name])) for name in names}
    layout = h.RowLayout([(axes[n], shapes[n][: axes[n]] + shapes[n][axes[n] + 1 :]) for n in names])
    rows = shapes[names[0]][axes[names[0]]]
    if layout.width > DENSE:
        raise OptionError(
            f"A row's latents have {layout.width} parameters to draw; row by row, at most {DENSE} are.",
            "Option: plate of hvm.",
            "Leave plate out: λ of all rows then has one prior of low rank.",
        )
    seen = jax.eval_shape(lambda: features(product, _example(product)))
    count = sum(int(np.prod(x.shape, dtype=int)) for x in seen.values()) // rows
    reverse = (h.RowGaussian if auxiliary == "gaussian" else h.RowBayes).start(rows, count, layout, seed)
    if inputs is None:
        return h.Hierarchical(product, scale, h.RowPrior.start(rows, layout, OF_ROWS), reverse, importance)
    return h.Hierarchical(product, scale, h.EncodedPrior.start(inputs, layout, OF_ROWS, seed), reverse, importance)


def _example(product: Product) -> Any:
    return product.values(jax.random.key(0), pathwise=False)


def _default(kind: Any, prior: Any, dim: int) -> str:
    if isinstance(prior, Mixture):
        return "mixture"
    if isinstance(prior, Flow):
        return "flow"
    return DEFAULTS.get(kind, "gaussian") if dim <= 4 * DENSE else "factorised"


def _prior(kind: str, dim: int, count: int, seed: int, spread: float) -> AbstractDensity:
    rng = np.random.default_rng(seed)
    eye = FullRank.from_factor(np.zeros(dim), np.eye(dim))
    if kind == "full_rank":
        return _on_device(eye)
    if kind == "flow":
        return Flow.around(eye, seed=seed)
    if kind == "mean_field":
        return _on_device(MeanField(jnp.zeros(dim), jnp.zeros(dim)))
    if kind == "low_rank":
        rank = min(10, dim)
        return LowRank(
            jnp.zeros(dim), jnp.full(dim, -0.2), jnp.asarray(0.3 * rng.normal(size=(dim, rank)) / np.sqrt(rank))
        )
    return components(spread * rng.normal(size=(count, dim)), np.zeros(count))


def components(means: np.ndarray, logits: np.ndarray) -> Mixture:
    """A mixture prior with components at these ψ, (K, D), each narrow.

    They are diagonal: narrow ones with correlations are nearly singular, and the rounding of their inverse can be
    mistaken for a gain in the bound. Several of them say what correlations would.
    """
    wide = np.full(means.shape[1], np.log(WIDTH))
    return _on_device(Mixture.of([MeanField(jnp.asarray(m), jnp.asarray(wide)) for m in means], logits))


def at_optima(found: Sighted, count: int, seed: int, spread: float) -> Mixture:
    """Components at the best optima of single products, by their bounds; what is left of `count` anywhere near λ₀."""
    rng = np.random.default_rng([seed, 67])
    means, logits = found.points[:count], found.bounds[:count] - found.bounds.max()
    left = count - len(means)
    means = np.concatenate([means, spread * rng.normal(size=(left, means.shape[1]))])
    return components(means, np.concatenate([np.maximum(logits, LEAST), np.full(left, FURTHER)]))


def _on_device(family: Any) -> Any:
    return jax.tree.map(jnp.asarray, family)


def _auxiliary(form: str, prior: Any, product: Product, inputs: Mapping[str, Any], dim: int, seed: int) -> Any:
    count = sum(int(np.prod(x.shape, dtype=int)) for x in inputs.values())
    if form == "prior":
        return h.PriorAuxiliary(dim)
    if form == "gaussian":
        return h.Gaussian.start(dim, count, seed)
    if form == "flow":
        return h.FlowAuxiliary.start(dim, count, seed)
    if form == "factorised":
        rows = {name: len(factor.rows) for name, factor in product.factors.items()}
        shapes = {name: x.shape[:-1] for name, x in inputs.items()}
        return h.Factorised.start(shapes, rows, {name: x.shape[-1] for name, x in inputs.items()})
    if isinstance(prior, Mixture) and hasattr(prior.components, "whiten"):
        return h.Responsibilities.start(prior.num_strata, dim, count, seed)
    means = np.random.default_rng(seed + 1).normal(size=(4, dim))
    return h.MixtureAuxiliary.start(means, np.log(0.5), count, seed)


def _same_size(what: str, given: Any, size: int, dim: int) -> None:
    if size != dim:
        raise OptionError(
            f"The {what} has {size} coordinates, but the latents' factors have {dim} parameters to draw.",
            f"Option: {what} of hvm, {type(given).__name__}.",
            f"Give one over {dim} coordinates, or its name.",
        )
