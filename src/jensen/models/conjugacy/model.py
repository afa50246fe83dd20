"""A NumPyro model as an expected log joint with its blocks: what coordinate ascent works on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from numpyro.distributions.distribution import validation_enabled

from jensen._errors import DataError, ModelError, OptionError
from jensen._typing import Array, Scalar
from jensen.families.exponential import AbstractExponentialFactor, Natural, Product
from jensen.math.precision import Precision, working
from jensen.math.programs import Program, equal_outputs
from jensen.models.analysis import CONCRETE_NEEDED
from jensen.models.conjugacy.blocks import Block, pointed
from jensen.models.conjugacy.energy import INLINE, Energy, Lookup, SiteTerm, Skeleton, reduced, with_slots
from jensen.models.conjugacy.factors import site_terms
from jensen.models.conjugacy.joint import recognise_joint
from jensen.models.conjugacy.recognise import recognise
from jensen.models.conjugacy.selfcheck import check_lookups, check_supports, first_outside, self_check
from jensen.models.conjugacy.target import ConjugateTarget, structure_of
from jensen.models.conjugacy.terms import LOOKED_UP, Atom, Map
from jensen.models.conjugacy.trace import SiteInfo, find_sites
from jensen.models.data_check import as_mapping, check_missing, check_names, convert, fixings
from jensen.models.program import NumPyroProgram
from jensen.models.structure import Structure
from jensen.models.user_code import blame

CHECKED_ROWS = 500
"""Rows of a large plate on which the structural check is made."""

Moments = dict[str, Natural]
"""Block name -> mean parameters."""
Naturals = dict[str, Natural]
"""Block name -> natural parameters."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What is static about a model: blocks, sites and which terms each block enters. Compared by identity.

    `row_precision` is that of data and local factors where rows are streamed, if it differs from the rest.
    """

    blocks: dict[str, Block]
    sites: dict[str, SiteInfo]
    owner: dict[str, str]
    touching: dict[str, tuple[SiteTerm, ...]]
    row_precision: Precision | None = None


class ConjugateModel(eqx.Module):
    """E_q[log p(x, z)] with q split into exponential-family blocks; an argument of compiled programs.

    Attributes:
        energy: the expected log joint as a function of moments.
        layout: blocks and sites.
    """

    energy: Energy
    layout: Layout = eqx.field(static=True)

    @property
    def blocks(self) -> dict[str, Block]:
        """The blocks by name, in the order of the program."""
        return self.layout.blocks

    @property
    def sites(self) -> dict[str, SiteInfo]:
        """Every sample site by name."""
        return self.layout.sites

    @property
    def rows(self) -> int:
        """Observed scalars, the unit of tolerances (at least 1)."""
        return max(1, sum(int(np.prod(s.shape)) for s in self.sites.values() if s.observed and s.support is not None))

    def with_arrays(self, arrays: Sequence[Array]) -> "ConjugateModel":
        """The same model on other arrays, as inside a compiled program."""
        return ConjugateModel(self.energy.with_arrays(arrays), self.layout)

    def expected_log_joint(self, moments: Moments) -> Scalar:
        """E_q[log p(x, z)] in nats; linear in the moments of each block."""
        return self.energy(self._lookup(moments))

    def summed(self, moments: Moments) -> tuple[Scalar, Scalar]:
        """(the expected log joint, Σ |terms|) in nats; the second times the rounding unit is the error of the first."""
        parts = self.energy.parts(self._lookup(moments))
        return sum(parts, start=jnp.zeros(())), sum(map(jnp.abs, parts), start=jnp.zeros(()))

    def message(self, block: str, moments: Moments) -> Natural:
        """The natural parameters of the optimal factor: ∇ of the expected log joint in the block's mean parameters."""

        def energy(own: Natural) -> Scalar:
            return self.energy(self._lookup({**moments, block: own}), self.layout.touching[block])

        return jax.grad(energy)(moments[block])

    def _lookup(self, moments: Moments) -> Lookup:
        def lookup(atoms: Sequence[Atom]) -> list[tuple[Array, tuple[Map, ...]]]:
            groups: dict[str, list[Atom]] = {}
            for atom in atoms:
                groups.setdefault(self.layout.owner[atom.site], []).append(atom)
            return [self.blocks[name].find(moments[name], group) for name, group in groups.items()]

        return lookup

    def factor(self, block: str, natural: Natural) -> AbstractExponentialFactor:
        """The block's factor at these natural parameters."""
        return self.blocks[block].factor(natural)

    def product(self, naturals: Naturals) -> Product:
        """q as a product of its factors."""
        factors = {name: self.factor(name, naturals[name]) for name in self.blocks}
        return Product(factors, tuple((name, block.sites) for name, block in self.blocks.items()))

    def elbo(self, moments: Moments, naturals: Naturals) -> Scalar:
        """E_q[log p(x, z)] + H[q], exact, in nats."""
        return self.expected_log_joint(moments) + self.product(naturals).entropy()


def build_conjugate(
    fn: Callable[..., Any],
    data: Mapping[str, Any] | None,
    *,
    blocks: Sequence[tuple[str, ...]] = (),
    precision: Precision = "double",
    row_precision: Precision | None = None,
) -> ConjugateModel:
    """The model of `conjugate_target` by itself."""
    return conjugate_target(fn, data, blocks=blocks, precision=precision, row_precision=row_precision).model


def conjugate_target(
    fn: Callable[..., Any],
    data: Mapping[str, Any] | None,
    *,
    blocks: Sequence[tuple[str, ...]] = (),
    precision: Precision = "double",
    row_precision: Precision | None = None,
) -> ConjugateTarget:
    """Analyse a NumPyro program, recognise its blocks and check the result against NumPyro's own densities.

    Raises a `ModelError` that names the site, the term, the source line and the remedy when the model is not
    conditionally conjugate; a `DataError` for data that the model cannot have produced.

    `row_precision` is that of the rows of a plate that is streamed, where it differs from the rest.
    """
    return _target(fn, data, blocks, precision, by_row=False, check=True, row_precision=row_precision)[0]


def conjugate_program(
    fn: Callable[..., Any], data: Mapping[str, Any], *, blocks: Sequence[tuple[str, ...]] = ()
) -> tuple[ConjugateTarget, Program]:
    """(`conjugate_target`, the program from the data's arrays to the arrays of the energy, which come first)."""
    return _target(fn, data, blocks, "double", by_row=False, check=True)


def batch_target(
    fn: Callable[..., Any], data: Mapping[str, Any], *, precision: Precision, check: bool
) -> tuple[ConjugateTarget, Program]:
    """(`conjugate_target` of a batch, the program from a batch's arrays to the arrays of the energy).

    Every term is kept row by row, so that rows can be weighted. Without `check` the structural check is left out, for
    a program that has passed it at another size.
    """
    return _target(fn, data, (), precision, by_row=True, check=check)


def _target(
    fn: Callable[..., Any],
    data: Mapping[str, Any] | None,
    blocks: Sequence[tuple[str, ...]],
    precision: Precision,
    by_row: bool,
    check: bool,
    row_precision: Precision | None = None,
) -> tuple[ConjugateTarget, Program]:
    if not callable(fn):
        raise ModelError(
            f"Coordinate updates are derived from a NumPyro program, which a {type(fn).__name__} is not.",
            remedy="Write the model in NumPyro, or use a method that needs a density only, such as advi.",
        )
    data = as_mapping(data)
    check_names(fn, data)
    arguments = convert(data, precision)
    with working(precision), validation_enabled(False):  # arguments are checked here, and nothing is run eagerly
        energy, sites, arrays, fixed, prepare = _analysed(fn, arguments, by_row)
        check_missing(arguments, {s.data_key for s in sites.values() if s.masked and s.data_key})
        layout = replace(arranged(energy, sites, blocks), row_precision=row_precision)
        model = ConjugateModel(energy, layout)
        fewer = _on_fewer_rows(fn, arguments, sites) if check else None
        if fewer is not None or not check or precision == "single":
            check_supports(fn, sites, arrays, fixed)
        if check and precision == "double":
            self_check(fn, *(fewer or (energy, sites, arrays, fixed)))
        elif check:  # of the algebra, which is the same: in single precision a point of a large simplex rounds to zeros
            with working("double"):
                wide = convert(data, "double")
                self_check(fn, *(_on_fewer_rows(fn, wide, sites) or _analysed(fn, wide)[:4]))
        program = NumPyroProgram(fn, arrays, fixed, precision)
        found: list[Structure] = []
        jax.eval_shape(
            lambda arrays: found.append(structure_of(NumPyroProgram(fn, arrays, fixed, precision), sites)), arrays
        )
    return ConjugateTarget(model, found[0], program), prepare


def _on_fewer_rows(
    fn: Callable[..., Any], arguments: dict[str, Any], sites: dict[str, SiteInfo]
) -> tuple[Energy, dict[str, SiteInfo], dict[str, Any], dict[str, Any]] | None:
    """The analysis of the same program on some rows of its largest plate; `None` where that plate is small.

    The structural check costs what NumPyro's own density costs, which for a million rows is gigabytes. A program that
    cannot run on fewer rows (its sizes are arguments, say) is checked on all of them.
    """
    size = max((p.size for s in sites.values() for p in s.plates), default=0)
    if size <= INLINE:
        return None
    rows = np.sort(np.random.default_rng(0).choice(size, CHECKED_ROWS, replace=False))
    fewer = {k: v[rows] if isinstance(v, np.ndarray) and v.shape[:1] == (size,) else v for k, v in arguments.items()}
    try:
        found = _analysed(fn, fewer)
    except Exception:
        return None
    sizes = {p.size for s in found[1].values() for p in s.plates}
    return found[:4] if CHECKED_ROWS in sizes and size not in sizes and list(found[1]) == list(sites) else None


def _analysed(
    fn: Callable[..., Any], arguments: dict[str, Any], by_row: bool = False
) -> tuple[Energy, dict[str, SiteInfo], dict[str, Any], dict[str, Any], Program]:
    """The energy, computed inside one compiled program; arrays that the model needs concretely are fixed instead.

    Returns (energy, sites, traced arguments, fixed arguments, the program).
    """
    needed: BaseException | None = None
    for names in fixings(arguments):
        arrays = {k: v for k, v in arguments.items() if k not in names}
        fixed = {k: v for k, v in arguments.items() if k in names}
        found: dict[str, Any] = {}

        def prepare(arrays: dict[str, Any], fixed: dict[str, Any] = fixed, found: dict[str, Any] = found) -> Any:
            kwargs = {**arrays, **fixed}
            found["sites"] = find_sites(fn, kwargs)
            token = LOOKED_UP.set([])
            try:
                found["skeleton"], known = reduced(site_terms(fn, found["sites"], kwargs), by_row)
                lookups = [] if by_row else LOOKED_UP.get() or []
            finally:
                LOOKED_UP.reset(token)
            found["lookups"] = [(where, limit) for where, limit, _ in lookups]
            outside = tuple(first_outside(index, limit) for _, limit, index in lookups)
            return (*known, outside) if outside else tuple(known)

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
        if found["lookups"]:
            *known, outside = known
            check_lookups(found["lookups"], outside)
        return Energy(tuple(known), found["skeleton"]), found["sites"], arrays, fixed, program
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


def arranged(energy: Energy, sites: dict[str, SiteInfo], joint: Sequence[tuple[str, ...]]) -> Layout:
    """The blocks of the latents among `sites`, and which terms each enters."""
    declared = [name for names in joint for name in names]
    twice = sorted({name for name in declared if declared.count(name) > 1})
    if twice:
        raise OptionError(f"'{twice[0]}' stands in more than one block.", remedy="Put every site into one block.")
    found: dict[str, Block] = {}
    for site in (s for s in sites.values() if not s.observed):
        names = next((names for names in joint if site.name in names), None)
        if names is None:
            block = recognise(site, energy, sites)
            found[site.name] = pointed(block) if site.point else block
        elif not any(site.name in block.sites for block in found.values()):
            block = recognise_joint(names, energy, sites)
            found[block.name] = block
    for name in declared:
        if name not in sites:
            recognise_joint((name, name), energy, sites)
    owner = {site: name for name, block in found.items() for site in block.sites}
    touching = {
        name: tuple(t for t in energy.terms if any(owner[a.site] == name for a in t.term.atoms)) for name in found
    }
    return Layout(found, sites, owner, touching)


__all__ = [
    "ConjugateModel",
    "ConjugateTarget",
    "Layout",
    "Moments",
    "Naturals",
    "batch_target",
    "build_conjugate",
    "conjugate_program",
    "conjugate_target",
]
