"""The energy of a program from one compiled run over its data, and the checks that every data set goes through."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from jensen._base.errors import DataError, ModelError
from jensen._conjugate.algebra.energy import INLINE, Energy, Skeleton, reduced, with_slots
from jensen._conjugate.algebra.factors import site_terms
from jensen._conjugate.algebra.resized import resized
from jensen._conjugate.algebra.selfcheck import (
    SelfCheck,
    SupportCheck,
    check_supports,
    outside_supports,
)
from jensen._conjugate.algebra.trace import SiteInfo, find_sites
from jensen._data.data_check import convert, fixings
from jensen._math.precision import Precision, working
from jensen._math.programs import Program, equal_outputs
from jensen._program.analysis import CONCRETE_NEEDED, feasible_trace
from jensen._program.identity import program_key
from jensen._program.static_arguments import Frozen, signature
from jensen._program.user_code import blame

CHECKED_ROWS = 500
"""Rows of a large plate on which the structural check is made."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """A program analysed at the shapes of its arguments.

    Attributes:
        fn: the program. sites: its sample sites. skeleton: its terms.
        fixed: names of the arguments that the model needs concretely, whose content the analysis depends on.
        program: the compiled run from the other arguments to the arrays of the energy; where `outside`, what lies
            outside of the supports follows.
    """

    fn: Callable[..., Any]
    sites: dict[str, SiteInfo]
    skeleton: Skeleton
    fixed: tuple[str, ...]
    outside: bool
    program: Program

    def divided(self, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(traced arguments, fixed arguments)."""
        arrays = {k: v for k, v in arguments.items() if k not in self.fixed}
        return arrays, {k: v for k, v in arguments.items() if k in self.fixed}

    def energy(self, arguments: Mapping[str, Any]) -> Energy:
        """The energy at arguments of these shapes."""
        return Energy(self.checked(self.program(self.divided(arguments)[0])), self.skeleton)

    def checked(self, found: Any, place: Any = None) -> tuple[Any, ...]:
        """The arrays of the energy among the program's outputs; raises a `DataError` for values outside.

        `place` names the rows of a batch, if the data are one.
        """
        if self.outside:
            *found, supports = found
            check_supports(self.sites, jax.device_get(supports), place)
        return tuple(found)


def analysed(fn: Callable[..., Any], arguments: dict[str, Any], by_row: bool = False) -> tuple[Analysis, Energy]:
    """The analysis and the energy; arrays that the model needs concretely are fixed instead of traced."""
    needed: BaseException | None = None
    for names in fixings(arguments):
        arrays = {k: v for k, v in arguments.items() if k not in names}
        fixed = {k: v for k, v in arguments.items() if k in names}
        found: dict[str, Any] = {}

        def prepare(arrays: dict[str, Any], fixed: dict[str, Any] = fixed, found: dict[str, Any] = found) -> Any:
            kwargs = {**arrays, **fixed}
            found["sites"] = find_sites(fn, kwargs)
            found["skeleton"], known = reduced(site_terms(fn, found["sites"], kwargs), by_row)
            # Other data are checked by `Checks`; a batch is checked by the program that takes it up.
            supports = outside_supports(feasible_trace(fn, kwargs), found["sites"]) if by_row else {}
            found["outside"] = bool(supports)
            return (*known, supports) if found["outside"] else tuple(known)

        try:
            closed, out = jax.make_jaxpr(prepare, return_shape=True)(arrays)
            program, found["skeleton"] = _without_copies(closed, out, found["skeleton"])
            known = program(arrays)
        except CONCRETE_NEEDED as error:
            needed = error
            continue
        except (ModelError, DataError):
            raise
        except Exception as error:
            raise blame(error, fn, arguments) from error
        result = Analysis(fn, found["sites"], found["skeleton"], tuple(fixed), found["outside"], program)
        return result, Energy(result.checked(known), found["skeleton"])
    assert needed is not None
    raise blame(needed, fn, arguments) from needed


def _without_copies(closed: ClosedJaxpr, out: Any, skeleton: Skeleton) -> tuple[Program, Skeleton]:
    """The traced preparation with each array once, and the terms with its slots.

    The scale of several sites, say, is computed for each of them; as one array it can be factored out of their terms.
    """
    count = skeleton.coefficients.index + 1
    first = equal_outputs(closed.jaxpr)[:count]
    kept = sorted(set(first))
    places = [kept.index(i) for i in first]
    tail = jax.tree.structure(tuple(out[count:]))

    def prepare(arrays: dict[str, Any]) -> Any:
        flat = jax.extend.core.jaxpr_as_fun(closed)(*jax.tree.leaves(arrays))
        return (*(flat[i] for i in kept), *jax.tree.unflatten(tail, flat[count:]))

    return Program(prepare), with_slots(skeleton, places)


class Checks:
    """What every data set goes through: its values lie in the supports, and the algebra is that of the densities.

    The structural check costs what NumPyro's own density costs, which for a million rows is gigabytes; it is made on
    some rows of the largest plate, whose size may be written in the program. A program that cannot run on fewer rows
    (it holds arrays of N rows itself, say) is checked on all of them.
    """

    def __init__(self, analysis: Analysis, precision: Precision, structure: bool):
        self.analysis, self.precision, self.structure = analysis, precision, structure
        self.rows: np.ndarray | None = None
        self.sizes = False
        self._supports: SupportCheck | None = None
        self._structure: SelfCheck | None = None

    def run(self, arguments: dict[str, Any], energy: Energy, data: Mapping[str, Any]) -> None:
        """Raise a `DataError` or `ModelError` where a check fails."""
        if not self.structure:  # the values of a batch have been checked by its own program
            return
        with working("double"):
            wide = arguments if self.precision == "double" else convert(data, "double")
            if self._structure is None:
                self._begin(wide)
        if self.rows is not None or self.precision == "single":
            self._check_supports(arguments)
        with working("double"):  # the algebra is the same: in single precision a point of a large simplex rounds to 0
            chosen = self._cut(wide)
            energy = energy if self.subject is self.analysis else self.subject.energy(chosen)
            self._structure.run(energy, self.subject.divided(chosen)[0])  # type: ignore[union-attr]

    def _check_supports(self, arguments: dict[str, Any]) -> None:
        arrays, fixed = self.analysis.divided(arguments)
        self._supports = self._supports or SupportCheck(self.analysis.fn, self.analysis.sites, fixed)
        self._supports.run(arrays)

    def _begin(self, arguments: dict[str, Any]) -> None:
        self.size = max((p.size for s in self.analysis.sites.values() for p in s.plates), default=0)
        self.rows = None
        fewer = self._on_fewer(arguments) if self.size > INLINE else None
        if fewer is not None:
            self.subject = fewer
        else:
            self.rows = None
            single = self.precision == "single"
            self.subject = analysed(self.analysis.fn, arguments)[0] if single else self.analysis
        fixed = self.subject.divided(self._cut(arguments))[1]
        self._structure = SelfCheck(self.subject.fn, None, self.subject.sites, fixed)

    def _on_fewer(self, arguments: dict[str, Any]) -> Analysis | None:
        """The program on some rows: its plates follow the data, or are cut, and so are whole numbers that give N."""
        self.rows = np.sort(np.random.default_rng(0).choice(self.size, CHECKED_ROWS, replace=False))
        fn, names = self.analysis.fn, list(self.analysis.sites)
        for program, cut in ((fn, False), (resized(fn, self.size, CHECKED_ROWS), True)):
            self.sizes = cut
            try:
                found = analysed(program, self._cut(arguments))[0]
            except Exception:
                continue
            sizes = {p.size for s in found.sites.values() for p in s.plates}
            if CHECKED_ROWS in sizes and self.size not in sizes and list(found.sites) == names:
                return found
        return None

    def _cut(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with some rows of the largest plate only."""
        if self.rows is None:
            return arguments
        return {k: self._fewer(v) for k, v in arguments.items()}

    def _fewer(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.shape[:1] == (self.size,):
            return value[self.rows]
        same = self.sizes and isinstance(value, int) and value == self.size
        return CHECKED_ROWS if same else value


class Known:
    """Analyses by what they were made of: the program, the shapes of its arguments, and the content of those it fixes.

    A hit runs the same checks on the new data; only tracing and analysis are saved.
    """

    def __init__(self, most: int = 64):
        self.most = most
        self._fixed: dict[Hashable, tuple[str, ...]] = {}
        self._found: OrderedDict[tuple[Hashable, Frozen], Any] = OrderedDict()

    def get(self, fn: Callable[..., Any], arguments: dict[str, Any], options: Hashable, make: Callable[[], Any]) -> Any:
        """(what was derived, its energy if it was made now); `make` gives (it, energy, names of fixed arguments)."""
        program = program_key(fn)
        if program is None:
            return make()[:2]
        key = (program, signature(arguments), options, jnp.result_type(float).name)
        if key in self._fixed:
            whole = key, Frozen({k: arguments[k] for k in self._fixed[key]})
            if whole in self._found:
                self._found.move_to_end(whole)
                return self._found[whole], None
        derived, energy, fixed = make()
        self._fixed[key] = fixed
        self._found[key, Frozen({k: arguments[k] for k in fixed})] = derived
        if len(self._found) > self.most:
            (old, _), _ = self._found.popitem(last=False)
            self._fixed.pop(old, None)
        return derived, energy


KNOWN = Known()
