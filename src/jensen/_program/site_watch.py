"""A NumPyro program run once with every site watched: its terms, parameters and plates, at the user's own lines."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.primitives import Messenger

from jensen._program.analysis import is_fixed
from jensen._program.number_widths import seeded
from jensen._program.statements import log_prob


class Watched(Messenger):
    """Runs `fn` with latents on their supports, and keeps what its sites compute while the user's line is at hand.

    Attributes:
        parameters: values' shapes of the param sites that are given beforehand: their starting values are not used.
        found: those that were met. terms: site -> log density, or value of a deterministic site.
        sizes: plate -> the sizes it was declared with. partly: sites with an `obs_mask`.
        bounded: continuous latents whose support is not the same whatever the program does.
        in_loop: those of `partly` that are inside a `scan`, which runs them where nothing outside sees them.
    """

    def __init__(self, fn: Callable[..., Any], key: Any, spread: Any, parameters: dict[str, Any]):
        self.program, self.key, self.spread, self.parameters = fn, key, spread, parameters
        self.found: dict[str, Any] = {}
        self.terms: dict[str, Any] = {}
        self.sizes: dict[str, list[int]] = {}
        self.partly: set[str] = set()
        self.in_loop: set[str] = set()
        self.bounded: set[str] = set()
        self.keys = 0
        super().__init__(fn)

    def run(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The terms, with the key as the seed."""
        handlers.substitute(seeded(self, self.key), substitute_fn=self._latent)(**arguments)
        return self.terms

    def _latent(self, site: dict[str, Any]) -> Any:
        if site["type"] != "sample" or site["is_observed"] or site["value"] is not None:
            return None
        return moved(site["fn"].support, site["fn"].shape(), self.spread)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Keys, and the values of parameters."""
        if msg["type"] == "prng_key" and msg["kwargs"]["rng_key"] is None and msg["value"] is None:
            self.keys += 1
            msg["kwargs"]["rng_key"] = jax.random.fold_in(self.key, self.keys)
        elif msg["type"] == "param" and msg["name"] in self.parameters:
            msg["value"] = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.parameters[msg["name"]])
        elif msg["type"] == "sample" and msg["name"].endswith("_unobserved") and not msg["is_observed"]:
            site = msg["name"].removesuffix("_unobserved")
            if f"{site}_observed" in self.terms:
                self.partly.add(site)
            if msg["value"] is not None:
                self.in_loop.add(site)
        elif msg["type"] == "mutable":
            raise ValueError("a state")  # which the analysis refuses

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Terms, parameters and plates."""
        if msg["type"] == "plate":
            size, subsample = msg["args"]
            if subsample not in (None, size):
                raise ValueError("a subsample")  # which the analysis refuses
            self._declared(msg["name"], size)
        for frame in msg.get("cond_indep_stack") or ():
            self._declared(frame.name, frame.size)
        if msg["type"] == "param" and msg["value"] is not None:
            shapes = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), msg["value"]
            )
            self.found[msg["name"]] = shapes
        elif msg["type"] == "sample":
            support = msg["fn"].support
            if not msg["is_observed"] and not support.is_discrete and not is_fixed(support):
                self.bounded.add(msg["name"])
            self.terms[msg["name"]] = log_prob(msg)
        elif msg["type"] == "deterministic":
            self.terms[msg["name"]] = msg["value"]

    def _declared(self, name: str, size: int) -> None:
        known = self.sizes.setdefault(name, [])
        if size not in known:
            known.append(size)


def moved(support: Any, shape: tuple[int, ...], spread: Any) -> Any:
    """A point of a support, `spread` away from the image of the origin in a direction without symmetry."""
    if support.is_discrete:
        low = getattr(support, "lower_bound", 0)
        return jnp.broadcast_to(jnp.asarray(low, int), shape) if jnp.ndim(low) <= len(shape) else jnp.zeros(shape, int)
    transform = biject_to(support)
    inside = transform.inverse_shape(shape)
    pattern = np.sin(1.0 + np.arange(int(np.prod(inside, dtype=int)))).reshape(inside)
    return transform(spread * jnp.asarray(pattern, jnp.result_type(float)))
