"""A program with its parameters open, as latents to be maximised over, or closed, as known values."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpyro
from numpyro.primitives import Messenger

from jensen._base.errors import OptionError
from jensen._core import Estimates
from jensen._model.parameters.find import find_parameters
from jensen._model.parameters.parameter import LEARNED, Flat, Parameter, param_sites


class _Known(Messenger):
    """Gives param statements, and latent sites where asked for, their values, and hides them from outer handlers.

    Of a site that is held at a point its prior density stays, as a factor.
    """

    def __init__(self, fn: Callable[..., Any], params: Mapping[str, Any], sites: Mapping[str, Any]):
        self.params, self.sites = params, sites
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "param" and msg["name"] in self.params:
            msg["value"], msg["stop"] = self.params[msg["name"]], True
        elif msg["type"] == "sample" and msg["name"] in self.sites:
            value = self.sites[msg["name"]]
            numpyro.factor(f"{msg['name']}_prior", msg["fn"].log_prob(value))
            msg["value"], msg["stop"] = value, True


class _Program:
    """A user's program with some of its arguments and param statements taken over; compared by what it does."""

    fn: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    __signature__: inspect.Signature
    __name__: str

    def __init__(self, fn: Callable[..., Any], parameters: Sequence[Parameter]):
        self.fn, self.parameters = fn, tuple(parameters)
        self._key = (type(self), fn, tuple((p.name, p.kind, str(p.support), p.part) for p in parameters))
        own = inspect.signature(fn)
        taken = {p.name for p in parameters if p.kind == "argument"}
        kept = [p for p in own.parameters.values() if p.name not in taken]
        self.__signature__ = own.replace(parameters=self._extended(kept))
        self.__name__ = getattr(fn, "__name__", "model")
        self.__wrapped__ = fn

    def _extended(self, kept: list[inspect.Parameter]) -> list[inspect.Parameter]:
        return kept

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program) and self._key == other._key

    def named(self, *kinds: str) -> list[Parameter]:
        """The parameters of these kinds."""
        return [p for p in self.parameters if p.kind in kinds]


class Opened(_Program):
    """The program with every parameter a latent: a flat site for a param or an argument, the site itself otherwise.

    `points` names them: their factors are concentrated at one value.
    """

    @property
    def points(self) -> frozenset[str]:
        """The latents that are points."""
        return frozenset(p.name for p in self.parameters)

    def __call__(self, **arguments: Any) -> Any:
        """Run the program."""
        values = {}
        for p in self.named("param", "network", "argument"):
            assert p.initial is not None  # only sites have none
            values[p.name] = numpyro.sample(p.name, Flat(p.support, p.initial.shape))
        given = {p.name: values[p.name] for p in self.named("argument")}
        return _Known(self.fn, param_sites(self.parameters, values), {})(**arguments, **given)


class Closed(_Program):
    """The program at known values of its parameters, which it takes as one more argument."""

    def _extended(self, kept: list[inspect.Parameter]) -> list[inspect.Parameter]:
        extra = inspect.Parameter(LEARNED, inspect.Parameter.KEYWORD_ONLY)
        last = [p for p in kept if p.kind is inspect.Parameter.VAR_KEYWORD]
        return [*(p for p in kept if p not in last), extra, *last]

    def __call__(self, **arguments: Any) -> Any:
        """Run the program."""
        values = {name: jnp.asarray(value) for name, value in arguments.pop(LEARNED).items()}
        given = {p.name: values[p.name] for p in self.named("argument")}
        params = param_sites(self.parameters, values)
        sites = {p.name: values[p.name] for p in self.named("site")}
        return _Known(self.fn, params, sites)(**arguments, **given)


def closed_at(
    fn: Callable[..., Any], data: Mapping[str, Any] | None, estimates: Estimates
) -> tuple[Closed, dict[str, Any]]:
    """(the program closed, its data with the estimates)."""
    parameters = [Parameter(name, kind, None, None) for name, kind in estimates.kinds.items()]
    if "network" in estimates.kinds.values():  # the model itself says which arrays make up a tree
        given = {p.name: estimates[p.name] for p in parameters if p.kind == "argument"}
        parts = {p.name: p for p in find_parameters(fn, {**(data or {}), **given})}
        for name in estimates:
            if estimates.kinds[name] == "network" and name not in parts:
                raise OptionError(
                    f"This model has no array '{name}', which the saved fit learned.",
                    f"Arrays of its networks: {', '.join(n for n, p in parts.items() if p.part) or 'none'}.",
                    "Attach the model it was fitted with.",
                )
        parameters = [parts[p.name] if p.kind == "network" else p for p in parameters]
    taken = {p.name for p in parameters if p.kind == "argument"}
    rest = {name: value for name, value in (data or {}).items() if name not in taken}
    return Closed(fn, parameters), {**rest, LEARNED: dict(estimates)}
