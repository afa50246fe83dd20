"""log p(x, g): the joint density of some blocks at a point, the others integrated or summed out exactly.

Given values of all other blocks, the complete conditional of a block is known with its normaliser, so the block leaves
the joint density in closed form; blocks that share no term leave together. With g the remaining latents,

    log p(x, g) = E(g) + Σ_C A_C(∂E/∂t_C(g)),

E the log joint without the terms of the blocks C that leave, and A_C their log normalisers. Where a streamed plate has
local blocks that depend on each other, its rows enter by their bound instead: exact is then `False`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jensen._base.typing import Array, Scalar
from jensen._conjugate.algebra import ConjugateModel, Moments, Naturals
from jensen._conjugate.algebra.plates import PlateSplit
from jensen._conjugate.coordinate.plated_sweeps import PlatedSweeps, sweeps_of
from jensen._families.exponential import Product


@dataclass(frozen=True, eq=False)
class Collapse:
    """Which blocks stay (`kept`) and which leave (`out`); `parts` where those that leave are streamed."""

    model: ConjugateModel
    kept: tuple[str, ...]
    out: tuple[str, ...]
    parts: PlateSplit | None = None

    @property
    def exact(self) -> bool:
        """Whether the blocks leave exactly; else `log_joint` is a lower bound."""
        return self.parts is None or not self.parts.carried

    def log_joint(self, values: Mapping[str, Array], arrays: Any) -> Scalar:
        """log p(x, g) in nats at values of the sites of the kept blocks."""
        model, moments = self._at(values, arrays)
        if self.parts is None:
            leaving = self._conditionals(model, moments)
            return model.expected_log_joint(moments) + sum(
                (jnp.sum(model.factor(n, natural).log_normalizer()) for n, natural in leaving.items()), jnp.zeros(())
            )
        return self._sweeps.bound(moments, {}, arrays)

    @property
    def _sweeps(self) -> PlatedSweeps:
        assert self.parts is not None  # whoever asks has looked
        return sweeps_of(self.parts, self.parts.shared)

    def conditionals(self, values: Mapping[str, Array], arrays: Any) -> Naturals:
        """Natural parameters of p(C | x, g) for every block that leaves."""
        model, moments = self._at(values, arrays)
        if self.parts is None:
            return self._conditionals(model, moments)
        found = self._sweeps.conditionals(self.parts.size, moments, self._sweeps.cold(self.parts.size), arrays)
        return {name: found[name] for name in self.out}

    def _conditionals(self, model: ConjugateModel, moments: Moments) -> Naturals:
        return {name: model.message(name, moments) for name in self.out}

    def _at(self, values: Mapping[str, Array], arrays: Any) -> tuple[ConjugateModel, Moments]:
        energy = type(self.model.energy)(tuple(arrays), self.model.energy.skeleton)
        model = ConjugateModel(energy, self.model.layout)
        moments: Moments = {}
        for name in self.kept:
            block = model.blocks[name]
            point = model.factor(name, block.zeros()).statistics(*(values[site] for site in block.sites))
            moments[name] = jax.tree.map(lambda a: jnp.asarray(a, jnp.result_type(float)), point)
        if self.parts is None:
            moments |= {name: model.blocks[name].zeros() for name in self.out}
        return model, moments


@dataclass(frozen=True, eq=False)
class Weighable:
    """Latents that keep their draws, and how the others leave.

    Attributes:
        q: the factors of the latents that keep their draws. plan: how the others leave.
        arrays: what the energy is computed from. at: (those, values of the latents of q) -> the energy's known arrays.
        programs: those of the analysis, which serve every fit of it; else this choice's own.
    """

    q: Product
    plan: Collapse
    arrays: Any
    at: Callable[[Any, Mapping[str, Array]], Any]
    programs: dict[Any, Any] = field(default_factory=dict)

    def bare(self) -> "Weighable":
        """The same choice without data and factors, which programs of it are given."""
        plan = replace(self.plan, model=self.plan.model.with_arrays(()))
        return replace(self, q=Product({}, ()), plan=plan, arrays=())

    @property
    def weighed(self) -> list[str]:
        """Sites with weights."""
        return [site for _, sites in self.q.blocks for site in sites]

    @property
    def left_out(self) -> list[str]:
        """Sites that were integrated out."""
        return [site for name in self.plan.out for site in self.plan.model.blocks[name].sites]

    def log_joint(self, values: Mapping[str, Array], arrays: Any) -> Scalar:
        """log p(x, g) in nats."""
        return self.plan.log_joint(values, self.at(arrays, values))

    def conditionals(self, values: Mapping[str, Array], arrays: Any) -> Naturals:
        """Natural parameters of what left, given g."""
        return self.plan.conditionals(values, self.at(arrays, values))


def chosen(q: Product, names: Iterable[str]) -> Product:
    """Some factors of a product."""
    names = set(names)
    return Product({n: f for n, f in q.factors.items() if n in names}, tuple(b for b in q.blocks if b[0] in names))


def collapses(model: ConjugateModel, parts: PlateSplit | None) -> list[Collapse]:
    """Choices of what leaves: the discrete blocks if there are any (few draws of them are alike), else several."""
    names = tuple(model.blocks)
    if parts is not None:
        return [Collapse(model, tuple(n for n in names if n not in parts.local), parts.local, parts)]
    owners = [{model.layout.owner[a.site] for a in entry.term.atoms} for entry in model.energy.terms]
    joined = {name: set().union(*(group for group in owners if name in group)) - {name} for name in names}
    sizes = {n: sum(int(np.prod(shape)) for shape in model.blocks[n].shapes.values()) for n in names}
    ranked = sorted(names, key=lambda n: (not model.blocks[n].discrete, -sizes[n], n))
    found: list[Collapse] = []
    for first in ranked[:1] if model.blocks[ranked[0]].discrete else ranked:
        out = [first]
        for name in ranked:
            if name not in out and not joined[name] & set(out):
                out.append(name)
        kept = tuple(n for n in names if n not in out)
        if all(set(kept) != set(other.kept) for other in found):
            found.append(Collapse(model, kept, tuple(n for n in names if n in out)))
    return found
