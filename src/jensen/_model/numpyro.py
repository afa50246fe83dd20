"""A NumPyro program as a model."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from numpyro import handlers
from numpyro.infer.util import compute_log_probs

from jensen._base.typing import Flat, Latent, PRNGKey, Scalar, Terms
from jensen._discrete import DiscreteLayout, complete, log_terms, marginals
from jensen._program.number_widths import seeded
from jensen._program.scans import AtOnce
from jensen._program.with_data import AbstractWithData


class NumPyroModel(AbstractWithData):
    """An ordinary NumPyro model with its data.

    `data` are arrays that compiled programs take as arguments; `fixed` are the arguments that the model needs as
    concrete Python values (sizes, flags, strings, and arrays it inspects while it builds the graph). With `discrete`,
    the log joint is that of the continuous latents, the discrete ones being summed out as it says.
    """

    fn: Callable[..., Any] = eqx.field(static=True)
    discrete: DiscreteLayout | None = eqx.field(static=True, default=None)

    @property
    def handled(self) -> "NumPyroModel":
        """Itself."""
        return self

    @property
    def source(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """The function with its data."""
        return self.fn, self.data, self.fixed.value

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """Elementwise log densities of every sample and factor site, masks and scales applied, in nats."""
        del batch
        if self.discrete is not None:
            return log_terms(self, latent)
        with AtOnce():
            return compute_log_probs(seeded(self.fn), (), self.kwargs, latent, sum_log_prob=False)[0]

    def terms_at(self, point: Flat, batch: Any = None) -> tuple[Terms, Scalar]:
        """The terms of the log joint at T(u), each as exact as the chart can tell it, and log |det ∂T/∂u|."""
        latent, log_det, known = self.bijection.placed(point)
        terms = self.log_joint(latent, batch)
        return {name: known.get(name, term) for name, term in terms.items()}, log_det

    def constrain(self, point: Flat) -> Latent:
        """Continuous latents at u, and the deterministic sites that they determine."""
        latent, _ = self.bijection.forward(point)
        later = self.discrete.computed if self.discrete is not None else ()
        names = [site.name for site in self.bijection.structure.deterministic if site.name not in later]
        if not names:
            return latent
        trace = handlers.trace(handlers.substitute(seeded(self.fn), data=latent)).get_trace(**self.kwargs)
        return {**latent, **{name: trace[name]["value"] for name in names}}

    def complete(self, point: Flat, key: PRNGKey) -> Latent:
        """Everything at u: `constrain`, with one draw of the discrete latents given the continuous ones."""
        found = self.constrain(point)
        return found if self.discrete is None else {**found, **complete(self, point, key)}

    def marginals(self, point: Flat) -> Latent:
        """p(z = value | θ, x) of every discrete latent at u: site -> (*shape, K)."""
        return {} if self.discrete is None else marginals(self, point)


__all__ = ["NumPyroModel"]
