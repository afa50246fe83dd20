"""The check of a program's indices: traced once for the shapes of its arguments, run on any data of these shapes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from numpyro import handlers
from numpyro.distributions import biject_to

from jensen._base.errors import DataError
from jensen._data.data_check import Place, as_mapping, convert, fixings
from jensen._math.precision import Precision, working
from jensen._math.programs import primitives
from jensen._program.analysis import CONCRETE_NEEDED
from jensen._program.contract import AbstractProgram
from jensen._program.identity import program_key
from jensen._program.indices.counted import refuse_counted
from jensen._program.indices.influence import matters
from jensen._program.indices.judge import OBSERVED, chooses, error_for, outside
from jensen._program.indices.known import Known, LaterError
from jensen._program.indices.named import Named, known, named, numbers
from jensen._program.indices.needed import Needed
from jensen._program.indices.states import SITES, Choice, impossible, known_range, of_states, states_of
from jensen._program.indices.walk import Lookup, Walk
from jensen._program.number_widths import seeded
from jensen._program.programs import as_program
from jensen._program.statements import bare, log_prob
from jensen._program.static_arguments import signature

MOST = 64
"""Traced programs that are kept."""
_KNOWN: "OrderedDict[Hashable, IndexCheck]" = OrderedDict()


@dataclass(eq=False)
class IndexCheck:
    """A traced program: inputs are the arrays in the order of `names` and what `_point` gives.

    There is none where the program cannot be traced. `made` are the arrays that NumPy made
    of those the program needs concretely, `fixed`; `choices` are discrete latents with
    the ends of their ranges. `states_fit` says that indices made of these have been found to fit, and that no data have
    a say in them: other data of the same shapes need not be looked at again at every state.
    """

    closed: ClosedJaxpr | None = None
    names: tuple[str, ...] = ()
    made: list[Named] = field(default_factory=list)
    fixed: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    needed: Needed = field(default_factory=Needed)
    states_fit: bool = False

    def run(self, arguments: Mapping[str, Any], place: Place | None = None) -> None:
        """Raise a `DataError` naming key, row, value and range for an index of the data outside the axis it looks up.

        `place` says what a row of a batch is called.
        """
        if self.closed is None:
            return
        jaxpr = self.closed.jaxpr
        if not self.needed(jaxpr, frozenset()).equations:
            return
        arrays = [np.asarray(a) for a in jax.tree.leaves({k: v for k, v in arguments.items() if k not in self.fixed})]
        leaves = {n: Known(a, frozenset([n]), name=n) for n, a in zip(self.names, arrays, strict=True)}
        held = {n: v for n, v in arguments.items() if n in self.fixed and isinstance(v, np.ndarray)}
        concrete = {n: Known(v, frozenset([n]), name=n) for n, v in held.items()}
        consts = [known(c, self.made, concrete) for c in self.closed.consts] if self.made else self.closed.consts
        scalars = {**_whole_numbers(arguments), **numbers(self.made, concrete)}
        first = self._lookups(consts, [*leaves.values(), None, None, None])
        for found in (found for lookup in first for found in outside(lookup)):
            error = error_for(found, place, scalars)
            if error is not None and matters(self.closed, [*arrays, *_point()], found):
                raise error
        if not self.states_fit:
            self._at_states(consts, leaves, arrays, first)

    def _at_states(self, consts: Any, leaves: Mapping[str, Known], arrays: list[Any], first: list[Lookup]) -> None:
        """Raise a `ModelError` for an index made of discrete latents that does not fit at some state."""
        assert self.closed is not None
        judged = {(id(lookup.eqn), lookup.operand) for lookup in first}
        data_lead = any(chooses(one.eqn) and one.index.keys for one in first)
        fit = not data_lead and "while" not in primitives(self.closed.jaxpr)
        for states in states_of(self.choices):
            for lookup in self._lookups(consts, [*leaves.values(), None, None, Known(states)]):
                if (id(lookup.eqn), lookup.operand) in judged:
                    continue
                fit &= not lookup.index.keys
                for found in outside(lookup):
                    fit, error, at = False, of_states(found, self.choices, states), [*arrays, *_point(states)]
                    if error is not None and not impossible(self.closed, at) and matters(self.closed, at, found):
                        raise error
        self.states_fit = fit

    def _lookups(self, consts: Any, inputs: list[Known | None]) -> list[Lookup]:
        assert self.closed is not None
        for constants in (False, True):
            walk = Walk(self.needed, constants)
            try:
                walk.run(self.closed.jaxpr, consts, inputs, frozenset())
                break
            except LaterError:
                continue
        return walk.lookups


def _whole_numbers(arguments: Mapping[str, Any], prefix: str = "") -> dict[int, Known]:
    """Python's integers among the arguments, by value."""
    found: dict[int, Known] = {}
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            found.update(_whole_numbers(value, f"{prefix}{name}."))
        elif type(value) is int and abs(value) < 2**63:
            found[value] = Known(np.asarray(value), frozenset([f"{prefix}{name}"]), name=f"{prefix}{name}")
    return found


def _point(states: Any = None) -> tuple[Any, Any, Any]:
    """A number that continuous latents depend on, a key, and how far discrete ones are above their least value."""
    number, key = np.asarray(0.7, jnp.result_type(float)), np.array([0, 11], np.uint32)
    return number, key, np.zeros(SITES, int) if states is None else states


def checked(
    model: Callable[..., Any] | AbstractProgram, data: Mapping[str, Any] | None, precision: Precision
) -> dict[str, Any]:
    """The data, their indices checked; converted in double precision, which some methods also work in otherwise."""
    given = as_mapping(data)
    arguments = convert(given, precision)
    check_indices(model, arguments, precision)
    return arguments if precision == "double" else dict(given)


def check_indices(
    model: Callable[..., Any] | AbstractProgram,
    arguments: dict[str, Any],
    precision: Precision,
    place: Place | None = None,
) -> None:
    """Raise a `DataError` for an index computed from the data that lies outside the axis it looks up.

    JAX clamps such an index, and counts a negative one from the end, without a word. `arguments` are converted data.
    Only what feeds an index is evaluated, in NumPy; a program that cannot be traced is left to its analysis.
    """
    with working(precision):
        program = as_program(model)
        if not program.traced:
            _check_on_host(program, arguments)
        else:
            index_check(model, arguments).run(arguments, place)


def index_check(model: Any, arguments: dict[str, Any]) -> IndexCheck:
    """The check of a program at the shapes of its arguments; to be called at the working precision."""
    program = as_program(model)
    if not program.traced or (program.handled and not callable(model)):
        return IndexCheck()
    content = program_key(model) if program.handled else None
    if content is None:
        return _traced(model, arguments)
    key = (content, signature(arguments), jnp.result_type(float).name)
    if key not in _KNOWN:
        found = _traced(model, arguments)
        if found.made:  # the content of concrete arrays is part of what was traced
            return found
        _KNOWN[key] = found
        if len(_KNOWN) > MOST:
            _KNOWN.popitem(last=False)
    return _KNOWN[key]


def _traced(model: Any, arguments: dict[str, Any]) -> IndexCheck:
    for names in fixings(arguments):
        arrays = {k: v for k, v in arguments.items() if k not in names}
        plain = {k: v for k, v in arguments.items() if k in names}
        made: list[Named] = []
        choices: list[Choice] = []
        try:
            closed = _jaxpr(model, arrays, plain, made, choices)
            again: Any = lambda other, arrays=arrays: _jaxpr(model, arrays, other, [], [])  # noqa: E731
            refuse_counted(closed, plain, again, [*jax.tree.leaves(arrays), *_point()])
        except CONCRETE_NEEDED:
            continue
        except DataError:
            raise
        except Exception:  # the analysis says what is wrong
            return IndexCheck()
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(arrays)]
        keys = tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path in paths)
        return IndexCheck(closed, keys, made, tuple(names), tuple(choices))
    return IndexCheck()


def _jaxpr(
    model: Any, arrays: dict[str, Any], plain: dict[str, Any], made: list[Named], choices: list[Choice]
) -> ClosedJaxpr:
    """The program traced, its concrete arrays named where it takes them like that; `choices` are discrete latents."""
    run: Any = partial(_sites, choices) if as_program(model).handled else _density
    fixed = named(plain, made)
    if made:
        try:
            return jax.make_jaxpr(partial(run, model, fixed))(arrays, *_point())
        except (*CONCRETE_NEEDED, DataError):
            raise
        except Exception:  # a number that is looked up in a dict, say
            made.clear()
    return jax.make_jaxpr(partial(run, model, plain))(arrays, *_point())


def _density(
    program: AbstractProgram, fixed: dict[str, Any], arrays: dict[str, Any], number: Any, key: Any, states: Any
) -> Any:
    del key, states
    data = {**arrays, **fixed}
    return program.log_joint(_latents(program, data, number), data)


def _latents(program: AbstractProgram, data: dict[str, Any], number: Any) -> dict[str, Any]:
    return {site.name: _value(site.support, site.shape, number) for site in program.latents(data)}


def _sites(
    choices: list[Choice], fn: Any, fixed: dict[str, Any], arrays: dict[str, Any], number: Any, key: Any, states: Any
) -> Any:
    """Log densities and deterministic sites at latents that all differ; discrete ones at some state."""
    choices.clear()

    def value(site: dict[str, Any]) -> Any:
        if site["type"] != "sample" or site["is_observed"] or site["value"] is not None:
            return None
        if "_scan_current_index" in site["infer"]:
            return None
        ends = known_range(site["fn"].support)
        if ends is not None and len(choices) < SITES:
            low, high = ends
            choices.append((site["name"], low, high))
            return jnp.full(site["fn"].shape(), low) + states[len(choices) - 1]
        return _value(site["fn"].support, site["fn"].shape(), number)

    program = handlers.substitute(seeded(fn, key), substitute_fn=value)
    found = []
    for site in handlers.trace(program).get_trace(**arrays, **fixed).values():
        if site["type"] == "sample":
            try:
                with jax.named_scope(f"{OBSERVED}{site['name']}|{_kind(site['fn'])}"):
                    found.append(log_prob(site))
            except CONCRETE_NEEDED:
                raise
            except Exception:  # labels that are no whole numbers, say: the analysis names them
                continue
        elif site["type"] == "deterministic":
            found.append(site["value"])
    return found


def _kind(fn: Any) -> str:
    return type(bare(fn)).__name__


def _check_on_host(program: AbstractProgram, arguments: dict[str, Any]) -> None:
    """Call a density outside JAX once with arrays that refuse negative indices of the data."""
    latent = {name: np.asarray(value).view(Named) for name, value in _latents(program, arguments, 0.7).items()}
    try:
        program.log_joint(latent, named(arguments, []))
    except DataError:
        raise
    except Exception:  # the analysis says what is wrong
        return


def _value(support: Any, shape: tuple[int, ...], number: Any) -> Any:
    """A value on a support that depends on `number`; no two entries are the same on the unconstrained scale."""
    if support.is_discrete:
        return jnp.zeros(shape, int) + (number > 1e30)
    free = tuple(biject_to(support).inverse_shape(shape))
    spread = jnp.cos(1.0 + jnp.arange(int(np.prod(free, dtype=int)), dtype=jnp.result_type(float)))
    return biject_to(support)(number * spread.reshape(free))
