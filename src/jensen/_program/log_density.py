"""A plain function as a model."""

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
from numpyro.distributions.constraints import real

from jensen._base.errors import ModelError
from jensen._base.typing import Flat, Latent, Terms
from jensen._core import AbstractModel
from jensen._data.data_check import argument_names, check_names, missing, refuse_missing
from jensen._program.bijection import SiteBijection
from jensen._program.contract import AbstractProgram
from jensen._program.host_function import HostFunction, check_points
from jensen._program.plain import analyse_plain, site_of
from jensen._program.static_arguments import Frozen
from jensen._program.structure import Site, Structure
from jensen._program.with_data import AbstractWithData


class LogDensity(AbstractProgram):
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

    function: Callable[..., Any]
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
        self.function, self.shapes_or_init, self.supports = fn, dict(shapes_or_init), dict(supports or {})
        self.differentiable: bool = differentiable
        self.traced: bool = differentiable
        given = {k: v for k, v in self.shapes_or_init.items() if not isinstance(v, (int, tuple))}
        self.starts: Mapping[str, Any] | None = given if given and len(given) == len(self.shapes_or_init) else None

    @property
    def fn(self) -> Callable[..., Any]:
        """The function."""
        return self.function

    @property
    def name(self) -> str:
        """The function's."""
        return getattr(self.function, "__name__", "the function")

    @property
    def arguments(self) -> tuple[str, ...] | None:
        """The function's, but for the latents."""
        return argument_names(self.function, skip=1)

    def check_names(self, data: Mapping[str, Any]) -> None:
        """Raise unless the function takes these arguments and no others are needed."""
        check_names(self.function, data, skip=1)

    def analyse(self, arrays: dict[str, Any], fixed: dict[str, Any], *, discrete: bool = False) -> Structure:
        """The sites as they were declared; the function is run once, abstractly."""
        return analyse_plain(self, arrays, fixed, discrete=discrete)

    def log_joint(self, latent: Mapping[str, Any], data: Mapping[str, Any]) -> Terms:
        """One term, the function's value."""
        return {"log_density": self.function(latent, **data)}

    def latents(self, data: Mapping[str, Any]) -> list[Site]:
        """The sites as they were declared."""
        del data
        return [site_of(n, shape, self.supports.get(n, real), True) for n, shape in self.shapes_or_init.items()]

    def again(self) -> "LogDensity":
        """With a wrapped function."""
        other, fn = copy.copy(self), self.function
        other.function = functools.wraps(fn)(lambda *args, **kwargs: fn(*args, **kwargs))
        return other

    def bind(self, structure: Structure, arrays: dict[str, Any], fixed: Frozen, evaluable: bool) -> AbstractModel:
        """With a function outside JAX called back, after a look at what it returns."""
        fn = self.function
        if not self.differentiable and evaluable:
            fn = HostFunction(fn, tuple(structure.latents), fixed.value)
            try:
                fn.check(check_points(structure))
            except ModelError:
                for name in missing({**arrays, **fixed.value}, set()):
                    refuse_missing({**arrays, **fixed.value}, name)
                raise
        return LogDensityModel(fn=fn, data=arrays, fixed=fixed, bijection=SiteBijection(structure, {}))

    def __repr__(self) -> str:
        return f"LogDensity({getattr(self.fn, '__name__', 'fn')}, {', '.join(self.shapes_or_init)})"


class LogDensityModel(AbstractWithData):
    """A `LogDensity` bound to its data."""

    fn: Callable[..., Any] = eqx.field(static=True)

    @property
    def failure(self) -> Exception | None:
        """That of a function outside JAX."""
        return self.fn.failure if isinstance(self.fn, HostFunction) else None

    def log_joint(self, latent: Latent, batch: Any = None) -> Terms:
        """One term: the function's value."""
        del batch
        return {"log_density": self.fn(latent, **self.kwargs)}

    def constrain(self, point: Flat) -> Latent:
        """T(u)."""
        return self.bijection.forward(point)[0]
