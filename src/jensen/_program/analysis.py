"""One abstract run of a NumPyro program: sites, supports, plates and dependencies. Nothing is compiled."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.interpreters.partial_eval import dce_jaxpr
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.ops.provenance import eval_provenance
from numpyro.primitives import Messenger

from jensen._base.errors import DataError, ModelError, ParameterSites
from jensen._data.data_check import named_arrays
from jensen._program.number_widths import seeded
from jensen._program.statements import bare, check_shape, is_masked, listed
from jensen._program.structure import Plate, Site, Structure
from jensen._program.supports import check_support
from jensen._program.user_code import blame

CONCRETE_NEEDED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def analyse(
    fn: Callable[..., Any], data: dict[str, Any], fixed: dict[str, Any], *, discrete: bool = False
) -> Structure:
    """The structure of a program, `data` being traced and `fixed` concrete; discrete latents only where asked for.

    Raises one of `CONCRETE_NEEDED` when the program needs concrete values for something in `data`, and a `ModelError`
    or `DataError` naming the site for everything that no method could use.
    """
    found: dict[str, Any] = {}

    def run(arrays: dict[str, Any]) -> tuple[Any, ...]:
        trace = feasible_trace(fn, {**arrays, **fixed})
        by_identity = {id(array): name for name, array in named_arrays({**arrays, **fixed})}
        found.update(_sites(trace, by_identity, discrete))
        return ()

    try:
        jax.eval_shape(run, data)
    except (*CONCRETE_NEEDED, ModelError, DataError):
        raise
    except Exception as error:
        raise blame(error, fn, data | fixed) from error
    sites: dict[str, Site] = found["sites"]
    if not any(site.kind == "latent" for site in sites.values()):
        raise ModelError(
            "The model has no latent sites, so there is nothing to infer.",
            f"Sites found: {', '.join(sites) or 'none'}.",
            "Observed sites carry obs=...; leave it out at the site whose posterior you want.",
        )
    return Structure(sites, found["plates"])


def feasible_trace(
    fn: Callable[..., Any], kwargs: dict[str, Any], value: Callable[[dict[str, Any]], Any] | None = None
) -> dict[str, Any]:
    """The program's trace with every latent at a cheap point of its support, or at the `value` for its site."""
    program = handlers.substitute(seeded(_Sound(fn)), substitute_fn=value or feasible)
    return handlers.trace(program).get_trace(**kwargs)


class _Sound(Messenger):
    """Refuses what makes no sense in any model: a state, plates of a part of a row, supports with nothing inside.

    A log joint that changes from one evaluation to the next (`numpyro.primitives.mutable`) is none.
    """

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate":
            _check_size(msg["name"], msg["args"][0])
        if msg["type"] == "sample" and hasattr(type(msg["fn"]), "support"):
            check_support(msg["fn"].support, f"Site '{msg['name']}' ({type(msg['fn']).__name__}).")
        if msg["type"] == "mutable":
            raise ModelError(
                f"The model keeps a state, '{msg['name']}', that changes whenever it runs.",
                f"Site '{msg['name']}'.",
                "Leave out layers with a state, such as batch normalisation; layer and group normalisation have none.",
            )


def _check_size(name: str, size: Any) -> None:
    whole = np.ndim(size) == 0 and not isinstance(size, bool) and np.issubdtype(jnp.result_type(size), np.integer)
    if not whole:
        raise ModelError(
            f"The size of plate '{name}' must be a whole number, got {size!r}.",
            f"Plate '{name}'.",
            "Give the number of its rows as an integer, len(y) say.",
        )


def traced(look: Callable[[dict[str, Any]], Any], arrays: dict[str, Any]) -> Any:
    """What `look(arrays)` finds when it is traced, as compiled programs are; nothing is evaluated.

    A program is run by this wherever it is only looked at: what it does with its arrays may be allowed on traced ones
    alone (an index that is a latent, a scale that is zero somewhere).
    """
    found: list[Any] = []
    jax.eval_shape(lambda given: found.append(look(given)), arrays)
    return found[0]


def dependencies(
    fn: Callable[..., Any], structure: Structure, arrays: dict[str, Any], fixed: dict[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Site -> the latents that its log density depends on, found by following values through the program.

    A latent's density always depends on itself; it is not listed among its own parents.
    """
    latents = placeholders(structure)

    def terms(given: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        trace = handlers.trace(handlers.substitute(seeded(fn), data=values)).get_trace(**given, **fixed)
        out = {}
        for name, site in trace.items():
            if site["type"] == "sample":
                out[name] = site["fn"].log_prob(site["value"])
            elif site["type"] == "deterministic":
                out[name] = site["value"]
        return out

    provenance = traced(lambda given: eval_provenance(lambda **values: terms(given, values), **latents), arrays)
    order = list(latents)
    return {
        name: tuple(latent for latent in order if latent in _union(sources) and latent != name)
        for name, sources in provenance.items()
    }


def placeholders(structure: Structure) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and type of every latent's value, in the order of the program; those summed out included."""
    kinds = {True: jnp.result_type(int), False: jnp.result_type(float)}
    latents = [site for site in structure.sites.values() if site.kind == "latent"]
    return {site.name: jax.ShapeDtypeStruct(site.shape, kinds[site.discrete]) for site in latents}


def support_sources(
    fn: Callable[..., Any], structure: Structure, arrays: dict[str, Any], fixed: dict[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Latent -> the latents that its *support* depends on, through what a scan computes from step to step too."""
    latents = placeholders(structure)

    def supports(given: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        trace = handlers.trace(handlers.substitute(seeded(fn), data=values)).get_trace(**given, **fixed)
        return {name: [jnp.asarray(leaf) for leaf in jax.tree.leaves(trace[name]["fn"].support)] for name in names}

    names = [site.name for site in structure.latents]
    closed, shape = jax.make_jaxpr(supports, return_shape=True)(arrays, latents)
    offset, order = len(jax.tree.leaves(arrays)), sorted(latents)
    found, start = {}, 0
    for name in sorted(shape):
        stop = start + len(shape[name])
        wanted = [start <= i < stop for i in range(len(closed.jaxpr.outvars))]
        _, used = dce_jaxpr(closed.jaxpr, wanted)
        found[name] = tuple(latent for latent, needed in zip(order, used[offset:], strict=True) if needed)
        start = stop
    return found


def _union(sources: Any) -> frozenset[str]:
    leaves = jax.tree.leaves(sources, is_leaf=lambda x: isinstance(x, frozenset))
    return frozenset().union(*leaves)


def feasible(site: dict[str, Any]) -> Any:
    """A cheap value on the support for a latent site: the image of the origin of the unconstrained space."""
    if site["type"] != "sample" or site["is_observed"] or site["value"] is not None:
        return None
    if "_scan_current_index" in site["infer"]:
        return None
    support = site["fn"].support
    if support.is_discrete:
        return jnp.zeros(site["fn"].shape(), int)
    transform = biject_to(support)
    return transform(jnp.zeros(transform.inverse_shape(site["fn"].shape())))


def _sites(trace: dict[str, Any], by_identity: dict[int, str], discrete: bool) -> dict[str, Any]:
    sites: dict[str, Site] = {}
    plates: dict[str, Plate] = {}
    for name, site in trace.items():
        if site["type"] == "param":
            raise ParameterSites(name, f"Site '{name}'.")
        if site["type"] == "plate":
            size, subsample = site["args"]
            if subsample not in (None, size):
                raise ModelError(
                    f"Plate '{name}' subsamples {subsample} of {size} rows.",
                    f"Plate '{name}'.",
                    "Write the model for the full data, without subsample_size.",
                )
        elif site["type"] == "deterministic":
            frames = _plates(site, plates)
            shape = jnp.shape(site["value"])
            event_dim = max(0, len(shape) + min((p.dim for p in frames), default=0)) if frames else len(shape)
            sites[name] = Site(name, "deterministic", "Deterministic", None, shape, event_dim, frames)
        elif site["type"] == "sample":
            sites[name] = _sample_site(site, _plates(site, plates), by_identity, discrete)
    return {"sites": sites, "plates": plates}


def _plates(site: dict[str, Any], seen: dict[str, Plate]) -> tuple[Plate, ...]:
    frames = tuple(Plate(f.name, f.dim, f.size) for f in site.get("cond_indep_stack", ()))
    seen.update({plate.name: plate for plate in frames})
    return tuple(sorted(frames, key=lambda plate: plate.dim))


def _sample_site(site: dict[str, Any], plates: tuple[Plate, ...], by_identity: dict[int, str], discrete: bool) -> Site:
    name, fn, shape = site["name"], site["fn"], jnp.shape(site["value"])
    base, masked = bare(fn), is_masked(fn)
    described = type(base).__name__
    if site["is_observed"]:
        if isinstance(site["value"], str):
            raise DataError(
                f"The value observed at '{name}' is the text {site['value']!r}.", f"Site '{name}'.", "Pass numbers."
            )
        if isinstance(base, dist.Unit):
            return Site(name, "factor", "Factor", None, tuple(fn.batch_shape), 0, plates)
        key = by_identity.get(id(site["value"]))
        check_shape(site, key)
        return Site(name, "observed", described, None, shape, fn.event_dim, plates, masked=masked, data_key=key)
    support = fn.support
    latent = Site(name, "latent", described, support, shape, fn.event_dim, plates, masked=masked, law=type(base))
    if support.is_discrete and discrete:
        return dataclasses.replace(latent, unconstrained_shape=(0,))
    if support.is_discrete:
        values, scanned = listed_values(site), "_scan_current_index" in site["infer"]
        return dataclasses.replace(latent, values=values, scanned=scanned)
    return dataclasses.replace(latent, unconstrained_shape=tuple(biject_to(support).inverse_shape(shape)))


def listed_values(site: dict[str, Any]) -> np.ndarray:
    """The values of a discrete latent, (K,): those of its support, whatever its parameters."""
    base = bare(site["fn"])
    support, shape = base.support, jnp.shape(site["value"])
    where = f"Site '{site['name']}', shape {shape}, support {site['fn'].support}."
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if base.event_dim or support.event_dim:
        raise ModelError(
            f"The latent site '{site['name']}' is a discrete vector ({type(base).__name__}), whose values cannot be "
            "listed.",
            where,
            "Write it with one-dimensional sites (Categorical or Bernoulli in a plate), or use 'bbvi'.",
        )
    if type(support).__name__ == "_Boolean":
        return np.arange(2)
    if low is None or high is None:
        values = listed(base)
        if values is not None:
            return values
        raise ModelError(
            f"The latent site '{site['name']}' is discrete ({type(base).__name__}) without bounds, so it cannot be "
            "summed out exactly.",
            where,
            "Sum it out by hand, use black-box VI ('bbvi'), or give it a bounded support: dist.DiscreteUniform, "
            "dist.Categorical over the values that matter, or dist.Binomial.",
        )
    return np.arange(int(np.min(np.asarray(low))), int(np.max(np.asarray(high))) + 1)


def is_fixed(support: Any) -> bool:
    """Whether a support's parameters are plain Python numbers, the same for all data."""
    return all(isinstance(leaf, (bool, int, float)) for leaf in jax.tree.leaves(support))


__all__ = [
    "CONCRETE_NEEDED",
    "analyse",
    "blame",
    "dependencies",
    "feasible",
    "feasible_trace",
    "is_fixed",
    "placeholders",
    "support_sources",
    "traced",
]
