"""A latent with the statistics in which the log joint holds it: what its family is recognised from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jensen._base.errors import ModelError
from jensen._base.typing import Array
from jensen._conjugate.algebra.blocks import Block, HostNatural, Signature, signature
from jensen._conjugate.algebra.energy import Energy, SiteTerm
from jensen._conjugate.algebra.statistics import STATISTICS, evaluated
from jensen._conjugate.algebra.terms import Atom, Map, Stat
from jensen._conjugate.algebra.trace import SiteInfo
from jensen._conjugate.algebra.value import describe_term
from jensen._families.exponential import AbstractExponentialFactor, Natural

Start = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""(random generator, shape) -> values of the site that an ascent begins at."""


@dataclass(frozen=True, eq=False)
class Occurrences:
    """A latent site, its terms, and what to make of them.

    Attributes:
        site: the latent. uses: for every term that holds it, its statistics there, its atoms and the term.
        sites: every site of the program by name.
    """

    site: SiteInfo
    uses: list[tuple[Signature, tuple[Atom, ...], SiteTerm]]
    sites: dict[str, SiteInfo]

    @classmethod
    def of(cls, site: SiteInfo, energy: Energy, sites: dict[str, SiteInfo]) -> "Occurrences":
        """All terms of the log joint that hold the site."""
        uses = []
        for entry in energy.terms:
            atoms = tuple(a for a in entry.term.atoms if a.site == site.name)
            if atoms:
                uses.append((signature(atoms), atoms, entry))
        return cls(site, uses, sites)

    @property
    def statistics(self) -> set[Stat]:
        """The statistics of terms that hold the site once."""
        return {found[0] for found, _, _ in self.uses if len(found) == 1}

    def check(self, allowed: Sequence[Signature], family: str) -> None:
        """Raise a `ModelError` that names site and term unless every term holds the site in one of these ways."""
        for found, _, entry in self.uses:
            if found not in allowed:
                raise self.refused(entry, family, _remedy(found))

    def refused(self, entry: SiteTerm, family: str, remedy: str) -> ModelError:
        """That a term holds the site in a way that the family has no statistic for."""
        site = self.site
        where = site.where if entry.site == site.name else f"{site.where} The term: {self.sites[entry.site].where}"
        return ModelError(
            f"The latent '{site.name}' enters the log joint through [{describe_term(entry.term)}], from site "
            f"'{entry.site}', which is not a sufficient statistic of {family}.",
            where,
            remedy,
        )

    def block(
        self,
        family: str,
        statistics: Mapping[str, Stat],
        factor: Callable[[Natural], AbstractExponentialFactor],
        start: Start,
        nearby: Callable[[np.random.Generator, HostNatural], np.ndarray] | None = None,
    ) -> Block:
        """The block of a site that every term holds in one statistic at most; raises where a term does not.

        Args:
            family: its name in words, for the refusal ("a beta distribution").
            statistics: name in the factor's natural parameters -> the statistic.
            factor: natural parameters -> the factor.
            start: values to begin at; with a trace of noise where equal entries would stay equal.
            nearby: (random generator, moments) -> values drawn from q, where a push may break a symmetry.
        """
        self.check([(stat,) for stat in statistics.values()], family)
        site = self.site
        names: dict[Signature, str] = {(stat,): name for name, stat in statistics.items()}

        def find(moments: Natural, atoms: Sequence[Atom]) -> tuple[Array, tuple[Map, ...]]:
            return moments[names[signature(atoms)]], atoms[0].maps

        def at(value: np.ndarray) -> HostNatural:
            return {name: evaluated(stat, value) for name, stat in statistics.items()}

        def begin(rng: np.random.Generator, shape: tuple[int, ...]) -> HostNatural:
            return at(start(rng, shape))

        def pushed(rng: np.random.Generator, moments: HostNatural) -> HostNatural:
            assert nearby is not None  # or it is not among the block's
            return at(nearby(rng, moments))

        drops = {name: STATISTICS[stat.kind].drops for name, stat in statistics.items()}
        shapes = {name: site.shape[: len(site.shape) - drops[name]] for name in statistics}
        plates = tuple(p.name for p in site.plates)
        push = None if nearby is None else pushed
        return Block(site.name, (site.name,), factor, find, shapes, begin, at, push, plates=plates)


def _remedy(found: Signature) -> str:
    if any(s.kind == "log" for s in found) and len(found) > 1:
        return "Give it a Gamma or InverseGamma prior instead of a LogNormal one, or use advi."
    return "Change the prior or the likelihood so that they are conjugate, or use advi, which needs no conjugacy."
