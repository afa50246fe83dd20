"""A NumPyro model as an expected log joint with its blocks: what coordinate ascent works on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions.distribution import validation_enabled

from jensen._base.errors import ModelError, OptionError
from jensen._base.typing import Array, Scalar
from jensen._conjugate.algebra.analysed import KNOWN, Analysis, Checks, analysed
from jensen._conjugate.algebra.blocks import Block, pointed
from jensen._conjugate.algebra.energy import Energy, Lookup, SiteTerm
from jensen._conjugate.algebra.joint import recognise_joint
from jensen._conjugate.algebra.recognise import recognise
from jensen._conjugate.algebra.target import ConjugateTarget, in_blocks
from jensen._conjugate.algebra.terms import Atom, Map
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._data.data_check import as_mapping, check_missing, check_names, convert
from jensen._families.exponential import AbstractExponentialFactor, Natural, Product
from jensen._math.precision import Precision, working
from jensen._math.programs import Program
from jensen._model.missing import check_compared
from jensen._model.program import BoundProgram
from jensen._program.structure import Structure
from jensen._program.structures import structure_of

Moments = dict[str, Natural]
"""Block name -> mean parameters."""
Naturals = dict[str, Natural]
"""Block name -> natural parameters."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What is static about a model: blocks, sites and which terms each block enters. Compared by identity.

    `row_precision` is that of data and local factors where rows are streamed, if it differs from the rest; `programs`
    holds the compiled sweeps, which serve any data.
    """

    blocks: dict[str, Block]
    sites: dict[str, SiteInfo]
    owner: dict[str, str]
    touching: dict[str, tuple[SiteTerm, ...]]
    row_precision: Precision | None = None
    programs: dict[Any, Any] = field(default_factory=dict)


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

    def program(self, name: Any, fn: Callable[..., Any], heavy: bool | str = False) -> Program:
        """The compiled `fn` of the model without its arrays and other arguments; made once for each analysis."""
        known = self.layout.programs
        if name not in known:
            known[name] = Program(partial(fn, self.with_arrays(())), heavy)
        return known[name]

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
    target, analysis = _target(fn, data, blocks, "double", by_row=False, check=True)
    return target, analysis.program


def batch_target(
    fn: Callable[..., Any], data: Mapping[str, Any], *, precision: Precision, check: bool
) -> tuple[ConjugateTarget, Analysis]:
    """(`conjugate_target` of a batch, its analysis, which serves other batches of the same shapes).

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
) -> tuple[ConjugateTarget, Analysis]:
    if not callable(fn):
        raise ModelError(
            f"Coordinate updates are derived from a NumPyro program, which a {type(fn).__name__} is not.",
            remedy="Write the model in NumPyro, or use a method that needs a density only, such as advi.",
        )
    data = as_mapping(data)
    check_names(fn, data)
    arguments = convert(data, precision)
    blocks = tuple(map(tuple, blocks))
    with working(precision), validation_enabled(False):  # arguments are checked here, and nothing is run eagerly
        options = (blocks, precision, by_row, check, row_precision)
        found, energy = KNOWN.get(fn, arguments, options, lambda: _derived(fn, arguments, *options))
        energy = found.analysis.energy(arguments) if energy is None else energy
        check_missing(arguments, _masked(found.analysis), known=energy.arrays)
        found.checks.run(arguments, energy, data)
        arrays, fixed = found.analysis.divided(arguments)
        check_compared(fn, arrays, fixed, _masked(found.analysis))
        program = BoundProgram(fn, arrays, fixed, precision)
    return ConjugateTarget(ConjugateModel(energy, found.layout), found.structure, program), found.analysis


@dataclass(frozen=True, eq=False)
class _Derived:
    """What was derived from a program and the shapes of its arguments."""

    analysis: Analysis
    layout: Layout
    structure: Structure
    checks: Checks


def _derived(
    fn: Callable[..., Any],
    arguments: dict[str, Any],
    blocks: Sequence[tuple[str, ...]],
    precision: Precision,
    by_row: bool,
    check: bool,
    row_precision: Precision | None,
) -> tuple[_Derived, Energy, tuple[str, ...]]:
    """(what was derived, the energy, names of the arguments whose content it depends on)."""
    analysis, energy = analysed(fn, arguments, by_row)
    check_missing(arguments, _masked(analysis), known=energy.arrays)
    layout = replace(arranged(energy, analysis.sites, blocks), row_precision=row_precision)
    structure = in_blocks(structure_of(fn, arguments)[0], analysis.sites)
    checks = Checks(analysis, precision, structure=check)
    return _Derived(analysis, layout, structure, checks), energy, analysis.fixed


def _masked(analysis: Analysis) -> set[str]:
    """The arrays observed at masked sites."""
    return {s.data_key for s in analysis.sites.values() if s.masked and s.data_key}


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
