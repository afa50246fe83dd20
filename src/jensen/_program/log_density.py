"""A plain function as a model."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx

from jensen._base.typing import Flat, Latent, Terms
from jensen._core import AbstractModel
from jensen._program.bijection import SiteBijection
from jensen._program.static_arguments import Frozen


class LogDensity:
    """A model given by its log joint density, `fn(z, **data) -> scalar` in nats, up to a constant.

    Args:
        fn: takes a dict of arrays on their supports, and the data as keyword arguments.
        shapes_or_init: site name -> shape (a tuple or an int), or -> an array of initial values.
        supports: site name -> NumPyro constraint; `real` where left out. Discrete ones are for `bbvi`.
        differentiable: False for a plain NumPy function or a simulator that JAX cannot trace. It is then called back
            with NumPy arrays, and with stacked draws where it turns out to take them; only `bbvi` fits it.

    The Jacobian of the map from the unconstrained space is added by jensen. Evidence is log ∫ exp fn dz.

    Example:
        >>> import jensen as jn
        >>> import jax.numpy as jnp
        >>> from numpyro.distributions import constraints
        >>> exponential = jn.LogDensity(lambda z: -z["rate"], {"rate": ()}, {"rate": constraints.positive})
        >>> fit = jn.fit(exponential, method="laplace")
        >>> list(fit.sample(2))
        ['rate']
    """

    fn: Callable[..., Any]
    shapes_or_init: dict[str, Any]
    supports: dict[str, Any]

    def __init__(
        self,
        fn: Callable[..., Any],
        shapes_or_init: Mapping[str, Any],
        supports: Mapping[str, Any] | None = None,
        *,
        differentiable: bool = True,
    ):
        self.fn, self.shapes_or_init, self.supports = fn, dict(shapes_or_init), dict(supports or {})
        self.differentiable = differentiable

    def __repr__(self) -> str:
        return f"LogDensity({getattr(self.fn, '__name__', 'fn')}, {', '.join(self.shapes_or_init)})"


class LogDensityModel(AbstractModel):
    """A `LogDensity` bound to its data."""

    fn: Callable[..., Any] = eqx.field(static=True)
    data: dict[str, Any]
    fixed: Frozen = eqx.field(static=True)
    bijection: SiteBijection

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments the function is called with."""
        return {**self.data, **self.fixed.value}

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """One term: the function's value."""
        del batch
        return {"log_density": self.fn(latent, **self.kwargs)}

    def constrain(self, point: Flat) -> Latent:
        """T(u)."""
        return self.bijection.forward(point)[0]
