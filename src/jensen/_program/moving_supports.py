"""Latents whose support depends on other latents, such as `Uniform(0, h)`: sampled on the line and mapped there.

The unconstrained coordinates are those that NumPyro itself would give them, site by site in the order of the program:
x = T_h(x_base), with T_h = biject_to(support given h), and x_base has the density of T_h⁻¹(x). Its support is fixed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.reparam import Reparam
from numpyro.ops.provenance import eval_provenance

from jensen._program.number_widths import seeded
from jensen._program.site_watch import moved


class OnTheLine(Reparam):
    """`x_base` on the line, and `x` as a deterministic site."""

    def __call__(self, name: str, fn: Any, obs: Any) -> Any:
        """(no distribution, the value): the site becomes deterministic."""
        assert obs is None  # latents only
        transform = biject_to(fn.support)
        base = numpyro.sample(f"{name}_base", dist.TransformedDistribution(fn, transform.inv))
        return None, transform(base)


def on_the_line(fn: Callable[..., Any], candidates: set[str], arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """The program with those of the `candidates` on the line whose support depends on a latent."""
    shapes: dict[str, Any] = {}

    def supports(**values: Any) -> dict[str, Any]:
        def value(site: dict[str, Any]) -> Any:
            if site["type"] != "sample" or site["is_observed"] or site["value"] is not None:
                return None
            return values[site["name"]] if site["name"] in values else moved(site["fn"].support, site["fn"].shape(), 0)

        trace = handlers.trace(handlers.substitute(seeded(fn), substitute_fn=value)).get_trace(**arguments)
        latents = {n: s["value"] for n, s in trace.items() if s["type"] == "sample" and not s["is_observed"]}
        shapes.update({n: jax.ShapeDtypeStruct(jnp.shape(v), jnp.result_type(v)) for n, v in latents.items()})
        return {n: [jnp.asarray(leaf) for leaf in jax.tree.leaves(trace[n]["fn"].support)] for n in candidates}

    jax.eval_shape(lambda: (supports(), ())[1])
    found = eval_provenance(supports, **dict(shapes))
    moving = {
        n for n, leaves in found.items() if any(jax.tree.leaves(leaves, is_leaf=lambda x: isinstance(x, frozenset)))
    }
    return handlers.reparam(fn, config={name: OnTheLine() for name in moving}) if moving else fn
