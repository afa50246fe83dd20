"""`numpyro.sample(..., obs_mask=)`: what is not observed is left out of the fit and drawn after it.

NumPyro splits a site `y` in two: `y_observed`, masked to the entries seen, and `y_unobserved`, a latent masked to the
others. The entries of `y_unobserved` that are seen have no density at all, so the posterior over both is improper.
Here they have that of the prior, which leaves the rest of the posterior as it is.

Where no other density depends on `y`, all of `y_unobserved` integrates to one. It is then a deterministic site without
a value while the model is fitted, and drawn from its conditional at the posterior's draws afterwards: exactly, and
whatever its distribution, a discrete one without bounds included. Elsewhere, as for a covariate with gaps, it is a
latent like any other.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.ops.provenance import eval_provenance
from numpyro.primitives import Messenger

from jensen._math.keys import split
from jensen._math.precision import float_type, working
from jensen._program.number_widths import seeded
from jensen._program.site_watch import moved
from jensen._program.structure import Structure

if TYPE_CHECKING:
    from jensen._model.program import BoundProgram

SEEN, UNSEEN = "_observed", "_unobserved"
_DRAWING = contextvars.ContextVar("drawing", default=False)


class Imputed:
    """A program whose partly observed sites, `sites`, are as said above; those `left_out` integrate to one."""

    def __init__(self, fn: Callable[..., Any], sites: frozenset[str], left_out: frozenset[str]):
        self.fn, self.sites, self.left_out = fn, sites, left_out
        functools.update_wrapper(self, fn, updated=())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Imputed) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.fn, self.sites, self.left_out

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The program, run with the sites in their place."""
        with _Imputing(self):
            return self.fn(*args, **kwargs)


class _Imputing(Messenger):
    def __init__(self, program: Imputed):
        self.program = program
        super().__init__(None)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Turn what is left out into a deterministic site, and unmask the rest."""
        name = msg.get("name") or ""
        site = name.removesuffix(UNSEEN)
        if msg["type"] != "sample" or msg["is_observed"] or not name.endswith(UNSEEN):
            return
        if site in self.program.left_out and not _DRAWING.get():
            kind = int if msg["fn"].support.is_discrete else float
            msg["type"], msg["value"] = "deterministic", jnp.zeros(msg["fn"].shape(), kind)
        elif site in self.program.sites:
            unmasked = _unmasked(msg["fn"])
            msg["fn"] = msg["fn"] if unmasked is None else unmasked


def _unmasked(fn: Any) -> Any:
    """The distribution without its innermost mask, which is that of the entries seen; `None` if it has no mask."""
    if not isinstance(fn, (dist.MaskedDistribution, dist.ExpandedDistribution, dist.Independent)):
        return None
    inner = _unmasked(fn.base_dist)
    if isinstance(fn, dist.MaskedDistribution):
        return fn.base_dist if inner is None else inner.mask(fn._mask)
    if inner is None:
        return None
    if isinstance(fn, dist.ExpandedDistribution):
        return inner.expand(fn.batch_shape)
    return inner.to_event(fn.reinterpreted_batch_ndims)


def imputing(fn: Callable[..., Any], sites: set[str], arguments: Mapping[str, Any]) -> Imputed:
    """The program with its partly observed sites as latents, or left out where nothing else depends on them."""
    shapes: dict[str, Any] = {}
    unseen = {f"{site}{UNSEEN}" for site in sites}

    def terms(**values: Any) -> dict[str, Any]:
        def value(site: dict[str, Any]) -> Any:
            if site["type"] != "sample" or site["is_observed"] or site["value"] is not None:
                return None
            return values[site["name"]] if site["name"] in values else moved(site["fn"].support, site["fn"].shape(), 0)

        trace = handlers.trace(handlers.substitute(seeded(fn), substitute_fn=value)).get_trace(**arguments)
        shapes.update({n: jax.ShapeDtypeStruct(jnp.shape(trace[n]["value"]), trace[n]["value"].dtype) for n in unseen})
        densities = {
            n: s["fn"].log_prob(s["value"]) for n, s in trace.items() if s["type"] == "sample" and n not in unseen
        }
        values = {n: s["value"] for n, s in trace.items() if s["type"] == "deterministic" and n not in sites}
        return {**densities, **values}

    jax.eval_shape(lambda: (terms(), ())[1])
    sources = jax.tree.leaves(eval_provenance(terms, **shapes), is_leaf=lambda leaf: isinstance(leaf, frozenset))
    used = frozenset().union(*sources)
    return Imputed(fn, frozenset(sites), frozenset(site for site in sites if f"{site}{UNSEEN}" not in used))


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    token = _DRAWING.set(True)
    try:
        yield
    finally:
        _DRAWING.reset(token)


def with_imputed(
    program: "BoundProgram | None", structure: Structure, draws: Mapping[str, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """The draws with those of the sites left out of the fit: p(y_unobserved | latents), one for each draw.

    Where it depends on discrete latents that were summed out and are not among the draws, its sites are taken out.
    """
    unseen = [site.name for site in structure.deterministic if site.name.endswith(UNSEEN) and site.name in draws]
    if not unseen or program is None:
        return dict(draws)
    names = {*unseen, *(name.removesuffix(UNSEEN) for name in unseen)}
    needed = [site.name for site in (*structure.latents, *structure.summed)]
    rest = {name: values for name, values in draws.items() if name not in names}
    if any(name not in draws for name in needed):
        return rest

    def one(arrays: dict[str, Any], key: Any, latent: dict[str, Any]) -> dict[str, Any]:
        seeded_at = handlers.seed(program.fn, rng_seed=key)
        trace = handlers.trace(handlers.substitute(seeded_at, data=latent)).get_trace(**arrays, **program.fixed)
        return {name: trace[name]["value"] for name in names}

    with working(program.precision), _drawing():
        dtype = float_type(program.precision)
        latents = {n: np.asarray(draws[n], dtype if np.asarray(draws[n]).dtype.kind == "f" else None) for n in needed}
        keys = split(jax.random.key(seed), len(next(iter(latents.values()))))
        run = jax.jit(lambda arrays, keys, all_of: jax.lax.map(lambda a: one(arrays, *a), (keys, all_of)))
        found = jax.device_get(run(program.arrays, keys, latents))
    return {name: found.get(name, values) for name, values in draws.items()}
