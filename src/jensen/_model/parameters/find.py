"""Which parameters a model has, and which of its arguments and latents the call asks to learn."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jax.extend.core import Literal
from numpyro.distributions import constraints
from numpyro.primitives import Messenger

from jensen._base.errors import DataError, ModelError, OptionError, nearest
from jensen._data.data_check import as_mapping, check_names, convert, fixings
from jensen._math.precision import Precision, working
from jensen._model.parameters.parameter import Parameter, Part
from jensen._program.analysis import CONCRETE_NEEDED, feasible_trace
from jensen._program.folding import walked
from jensen._program.primitive_kinds import RESHAPING
from jensen._program.statements import bare
from jensen._program.supports import check_support
from jensen._program.user_code import blame


def find_parameters(
    fn: Callable[..., Any],
    data: Mapping[str, Any] | None,
    learn: Iterable[str] | Mapping[str, Any] = (),
    precision: Precision = "double",
) -> tuple[Parameter, ...]:
    """Every `numpyro.param` site, and what `learn` names: arguments in `data` and latent sites.

    `learn` may map an argument to its constraint; otherwise that of the distribution's parameter which the argument is
    passed on to is taken. Nothing is compiled except the computation of the params' initial values.
    """
    asked = {name: None for name in _listed(learn)} if not isinstance(learn, Mapping) else dict(learn)
    data = as_mapping(data)
    check_names(fn, data)
    arguments = convert(data, precision)
    with working(precision):
        params, sites, read = _looked(fn, arguments, {n for n in asked if n in arguments})
        parameters = [p for name in params for p in _param(name, params[name], sites)]
        for name, constraint in asked.items():
            if name in params:
                continue
            parameters.append(_asked(name, constraint, arguments, sites, read, params))
        held = {p.name for p in parameters if p.kind == "site"}
        if not any(not s["is_observed"] and s["name"] not in held for s in sites.values()):
            raise no_latents([p.name for p in parameters])
    return tuple(parameters)


def no_latents(names: list[str]) -> ModelError:
    """What to say where nothing is left to infer."""
    return ModelError(
        f"The model has the parameters {', '.join(map(repr, names))} but no other latents, so there is no posterior to "
        "find: this is plain maximum likelihood.",
        "",
        "Give a parameter a prior with numpyro.sample to infer it, or maximise the likelihood with optax or "
        "scipy.optimize.",
    )


def _listed(learn: Any) -> list[str]:
    if isinstance(learn, str) or not isinstance(learn, Iterable) or not all(isinstance(name, str) for name in learn):
        raise OptionError(
            f"`learn` must be a list of names, got {learn!r}.", "Argument: learn.", "Write learn=['sigma'], say."
        )
    return list(learn)


def _param(name: str, found: tuple[Any, Any], sites: Mapping[str, Any]) -> list[Parameter]:
    initial, constraint = found
    if name in sites:
        raise ModelError(
            f"'{name}' is both a param site and a sample site: a parameter that is learned cannot also be a latent.",
            f"Site '{name}'.",
            "Give one of the two another name.",
        )
    if not jax.tree_util.all_leaves([initial]):
        return _arrays(name, initial, constraint)
    initial = np.asarray(initial)
    if initial.dtype.kind in "iub":
        initial = initial.astype(float)
    parameter = Parameter(name, "param", constraint, initial)
    _check_inside(parameter)
    return [parameter]


def _arrays(name: str, value: Any, constraint: Any) -> list[Parameter]:
    """The arrays of a param site that holds a tree, as `numpyro.contrib.module` makes it of a network."""
    if constraint is not constraints.real:
        raise ModelError(
            f"The param site '{name}' holds several arrays under one constraint ({constraint}).",
            f"Site '{name}'.",
            "Give each constrained array a param site of its own.",
        )
    tree = jax.tree.structure(value)
    return [
        Parameter(
            f"{name}.{jax.tree_util.keystr(path, simple=True, separator='.')}",
            "network",
            constraint,
            np.asarray(leaf, float),
            Part(name, tree, index),
        )
        for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(value))
    ]


def check_starts(fn: Callable[..., Any], data: Mapping[str, Any] | None, precision: Precision) -> None:
    """Raise for a param that starts outside its constraint: what else goes wrong in the program may be due to that."""
    try:
        with working(precision):
            _looked(fn, convert(as_mapping(data), precision), set())
    except OutsideConstraint:
        raise
    except Exception:
        return


class OutsideConstraint(ModelError):
    """A parameter starts where its constraint does not allow it."""


def _check_inside(parameter: Parameter) -> None:
    with jax.ensure_compile_time_eval():
        inside = np.all(np.asarray(parameter.support(jnp.asarray(parameter.initial))))
    if not inside or not np.isfinite(np.asarray(parameter.initial, float)).all():
        raise OutsideConstraint(
            f"The initial value of '{parameter.name}' lies outside its constraint ({parameter.support}).",
            f"{parameter.where} Initial value: {np.array2string(np.asarray(parameter.initial), threshold=6)}.",
            "Start it inside: the ascent moves in unconstrained coordinates, which that value does not have.",
        )


def _asked(
    name: str,
    constraint: Any,
    arguments: Mapping[str, Any],
    sites: Mapping[str, Any],
    read: Mapping[str, list[Any]],
    params: Mapping[str, Any],
) -> Parameter:
    latents = [n for n, site in sites.items() if not site["is_observed"]]
    if name in arguments and name in latents:
        raise OptionError(f"'{name}' is both an argument and a latent site.", "Argument: learn.", "Rename one of them.")
    if name in latents:
        if sites[name]["fn"].support.is_discrete:
            raise OptionError(
                f"'{name}' is discrete, and a point estimate of it cannot be climbed to.",
                f"Argument: learn. Site '{name}'.",
                "Leave it latent: its posterior probabilities are exact.",
            )
        return Parameter(name, "site", None, None)
    if name not in arguments:
        raise OptionError(
            f"learn names '{name}', which is neither an argument in `data` nor a latent site.",
            "Argument: learn.",
            nearest(name, [*arguments, *latents, *params]),
        )
    value = arguments[name]
    if isinstance(value, (Mapping, str)) or value is None:
        raise OptionError(f"The argument '{name}' holds no numbers to learn.", "Argument: learn.", "Learn arrays only.")
    constraint = _constraint(name, read.get(name, [])) if constraint is None else constraint
    check_support(constraint, f"Argument: learn, '{name}'.")
    parameter = Parameter(name, "argument", constraint, np.asarray(value, float))
    _check_inside(parameter)
    return parameter


def _constraint(name: str, found: list[Any]) -> Any:
    fixed = [c for c in found if not c.is_discrete and not dist.constraints.is_dependent(c)]
    narrow = [c for c in fixed if c not in (constraints.real, constraints.real_vector)]
    if not fixed:
        raise OptionError(
            f"The range of the argument '{name}' cannot be read from the model: it is not passed on to a distribution "
            "as it is.",
            "Argument: learn.",
            f"Say it: learn={{'{name}': numpyro.distributions.constraints.positive}}.",
        )
    return narrow[0] if narrow else constraints.real


class _Params(Messenger):
    """Collects the param statements."""

    def __init__(self, fn: Callable[..., Any], found: dict[str, Any], constraint: dict[str, Any]):
        self.found, self.constraint = found, constraint
        super().__init__(fn)

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] != "param":
            return
        if msg["value"] is None:  # a module that asks first whether its weights are known
            return
        self.found[msg["name"]] = msg["value"]
        self.constraint[msg["name"]] = msg["kwargs"].get("constraint", constraints.real)
        whole = jax.tree_util.all_leaves([msg["value"]])
        if whole and not isinstance(msg["value"], Tracer):  # before the program fails on it
            _check_inside(Parameter(msg["name"], "param", self.constraint[msg["name"]], np.asarray(msg["value"])))


def _looked(
    fn: Callable[..., Any], arguments: dict[str, Any], asked: set[str]
) -> tuple[dict[str, tuple[Any, Any]], dict[str, Any], dict[str, list[Any]]]:
    """(param -> (initial value, constraint), sample sites by name, argument -> the constraints it is read under)."""
    needed: BaseException | None = None
    for fixed in fixings(arguments):
        traced = {k: jnp.asarray(v, float) if k in asked else v for k, v in arguments.items() if k not in fixed}
        traced |= {k: jnp.asarray(arguments[k], float) for k in asked & fixed if np.ndim(arguments[k]) is not None}
        known = {k: v for k, v in arguments.items() if k not in traced}
        support: dict[str, Any] = {}
        sites: dict[str, Any] = {}
        uses: list[Any] = []

        def run(
            arrays: dict[str, Any],
            known: Any = known,
            support: Any = support,
            sites: Any = sites,
            uses: Any = uses,
        ) -> Any:
            found: dict[str, Any] = {}
            trace = feasible_trace(_Params(fn, found, support), {**arrays, **known})
            values = []
            for site in trace.values():
                if site["type"] != "sample":
                    continue
                sites[site["name"]] = site
                base = bare(site["fn"])
                for key, value in base.get_args().items():
                    if isinstance(value, Tracer):
                        uses.append(base.arg_constraints.get(key, constraints.real))
                        values.append(value)
            return found, values

        try:
            closed, shape = jax.make_jaxpr(run, return_shape=True)(traced)
        except CONCRETE_NEEDED as error:
            needed = error
            continue
        except (ModelError, DataError):
            raise
        except Exception as error:
            raise blame(error, fn, arguments) from error
        read = _read(closed.jaxpr, traced, len(jax.tree.leaves(shape[0])), uses) if asked else {}
        initial = _initial(run, traced) if support else {}
        return {name: (initial[name], support[name]) for name in support}, sites, read
    assert needed is not None
    raise blame(needed, fn, arguments) from needed


def _initial(run: Callable[..., Any], traced: dict[str, Any]) -> dict[str, Any]:
    return jax.device_get(jax.jit(lambda arrays: run(arrays, sites={}, uses=[])[0])(traced))


def _read(jaxpr: Any, traced: dict[str, Any], skip: int, uses: list[Any]) -> dict[str, list[Any]]:
    """Argument -> the constraints of the distribution parameters that are this argument, up to its shape."""
    names = [name for name in sorted(traced) for _ in jax.tree.leaves(traced[name])]

    def step(eqn: Any, given: list[Any]) -> list[Any]:
        entering = [name for name, v in zip(given, eqn.invars, strict=True) if not isinstance(v, Literal)]
        return [entering[0] if eqn.primitive.name in RESHAPING and len(entering) == 1 else None] * len(eqn.outvars)

    owners = walked(jaxpr, [None] * len(jaxpr.constvars), names, step, lambda *_: None)
    found: dict[str, list[Any]] = {}
    for owner, constraint in zip(owners[skip:], uses, strict=True):
        if owner is not None:
            found.setdefault(owner, []).append(constraint)
    return found
