"""What a sample statement of a trace holds: its distribution without wrappers, and its part of the log joint."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from jensen._base.errors import DataError


def wrappers(fn: Any) -> Iterator[Any]:
    """What is wrapped around a distribution by `to_event`, `expand` and `mask`, outermost first."""
    while isinstance(fn, (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)):
        yield fn
        fn = fn.base_dist


def bare(fn: Any) -> Any:
    """The distribution without what is wrapped around it."""
    for wrapper in wrappers(fn):
        fn = wrapper.base_dist
    return fn


def masks(fn: Any) -> list[Any]:
    """The masks around a distribution, outermost first."""
    return [jnp.asarray(one._mask) for one in wrappers(fn) if isinstance(one, dist.MaskedDistribution)]


def is_masked(fn: Any) -> bool:
    """Whether some mask is around it."""
    return any(isinstance(one, dist.MaskedDistribution) for one in wrappers(fn))


def listed(fn: Any) -> np.ndarray | None:
    """The values that a discrete distribution lists itself, (K,), on the host; `None` where it lists none."""
    try:
        with jax.ensure_compile_time_eval():
            return np.asarray(fn.enumerate_support(expand=False)).reshape(-1)
    except Exception:  # the user's or NumPyro's own, of any kind: there is no other way to ask
        return None


def log_prob(site: dict[str, Any]) -> Any:
    """The elementwise log density of a statement in nats, mask and scale applied."""
    fn, value, between = site["fn"], site["value"], site["intermediates"]
    term = fn.log_prob(value, between) if between else fn.log_prob(value)
    return term if site["scale"] is None else site["scale"] * term


def check_shape(site: dict[str, Any], key: str | None, line: str = "") -> None:
    """Raise unless an observed array has the whole shape of its site, its plates included."""
    shape, expected = jnp.shape(site["value"]), tuple(site["fn"].shape())
    try:
        fits = np.broadcast_shapes(shape, expected) == shape
    except ValueError:
        fits = False
    if not fits:
        plates = ", ".join(f"'{f.name}' of size {f.size}" for f in site["cond_indep_stack"])
        within = f", with the plate {plates}" if plates else ""
        raise DataError(
            f"The values observed at '{site['name']}' have shape {shape}, but its distribution "
            f"{type(bare(site['fn'])).__name__} has shape {expected}{within}.",
            f"Site '{site['name']}'{f', data key {key!r}' if key else ''}{f', at {line}' if line else ''}.",
            "Make the shapes agree: a silent broadcast would count every observation several times.",
        )
