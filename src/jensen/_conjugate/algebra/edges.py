"""Observed sites whose density is zero beyond an edge that latents set: `Uniform(0, theta)`, a shifted exponential.

NumPyro says so by its checks of supports, which are left out of what is analysed here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.ops.provenance import eval_provenance

from jensen._base.errors import ModelError
from jensen._program.analysis import is_fixed
from jensen._program.number_widths import seeded
from jensen._program.statements import bare


def check_edges(
    fn: Callable[..., Any], kwargs: dict[str, Any], samples: list[dict[str, Any]], lines: Mapping[str, str]
) -> None:
    """Raise where whether an observed value has a density depends on a latent."""
    names = [s["name"] for s in samples if s["is_observed"] and _may_end(s["fn"])]
    if not names:
        return
    latents = {s["name"]: s["value"] for s in samples if not s["is_observed"]}
    shapes = {name: jax.ShapeDtypeStruct(jnp.shape(v), jnp.result_type(v)) for name, v in latents.items()}

    def inside(**values: Any) -> dict[str, Any]:
        trace = handlers.trace(handlers.substitute(seeded(fn), data=values)).get_trace(**kwargs)
        return {n: [jnp.asarray(s(v)) for s, v in _levels(trace[n]["fn"], trace[n]["value"])] for n in names}

    for name, sources in eval_provenance(inside, **shapes).items():
        found = sorted(frozenset().union(*sources))
        if found:
            line = lines.get(name, "")
            raise ModelError(
                f"Where '{name}' has a density depends on the latent '{found[0]}': it is zero beyond an edge, which no "
                "coordinate update can hold.",
                f"Site '{name}'{', at ' + line if line else ''}.",
                f"Let the edge be the end of a support: {found[0]} = edge + distance with a positive latent distance "
                "and an edge computed from the data, y.max() for Uniform(0, theta).",
            )


def _levels(fn: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """(support, value) of a distribution and of those that it transforms, where the support is not the whole line."""
    while True:
        fn = bare(fn)
        if not _whole(fn.support):
            yield fn.support, value
        if not isinstance(fn, dist.TransformedDistribution):
            return
        for transform in reversed(fn.transforms):
            value = transform.inv(value)
        fn = fn.base_dist


def _may_end(fn: Any) -> bool:
    """Whether a support is set by the program, or is that of a distribution underneath; one more trace then tells."""
    if fn.support.is_discrete:
        return False
    fn = bare(fn)
    if not isinstance(fn, dist.TransformedDistribution):
        return not is_fixed(fn.support)
    base = bare(fn.base_dist)
    return not _whole(base.support) or not is_fixed(fn.support)


def _whole(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real
