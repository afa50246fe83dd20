"""Blocks as readable equations: the complete conditional, the update with the site of every term, and refusals."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jensen._errors import ModelError
from jensen.equations.expression import Element, Expr, Index, Number, Sum, children, labels_of, sum_of
from jensen.equations.notation import PRODUCT, SUM, Notation
from jensen.equations.update import Equation, Update, Writer
from jensen.models.analysis import is_fixed
from jensen.models.conjugacy.derived import Derivation, derive
from jensen.models.conjugacy.partial import free_fewest

LATEX = {"1/s²": r"1/s^{2}", "S⁻¹": r"S^{-1}", "α": r"\alpha", "ν": r"\nu", "κ": r"\kappa"}
WEIGHTS = ("log φ", "w log φ", "log ψ")
"""Parameters that are written as proportional to exp(·)."""


@dataclass(frozen=True)
class Line:
    """`left sign opening parts closing`: one parameter, of which each part (site, text) comes from one site."""

    left: str
    sign: str
    opening: str
    parts: tuple[tuple[str, str], ...]
    closing: str


@dataclass(frozen=True)
class BlockText:
    """One block in writing: `head` is its factor, `given` its complete conditional; each has a line per parameter."""

    name: str
    head: str
    given: str
    conditional: tuple[Line, ...]
    update: tuple[Line, ...]


@dataclass(frozen=True)
class Obstacle:
    """What is not conjugate: the site, the term or reason, the place in the source, and the remedy."""

    site: str
    what: str
    where: str
    remedy: str


@dataclass(frozen=True)
class Equations:
    """The equations of a model.

    Attributes:
        blocks, latex_blocks: every recognised block as text and as LaTeX.
        obstacles: what is not conjugate. indices: letter -> (what it runs over, size).
        constants: arrays of constants that the equations name.
        updates: the same equations as expressions that can be evaluated.
        derivation: the analysis behind them.
    """

    blocks: tuple[BlockText, ...]
    latex_blocks: tuple[BlockText, ...]
    obstacles: tuple[Obstacle, ...]
    indices: dict[str, tuple[str, int]]
    constants: dict[str, np.ndarray]
    updates: dict[str, Update]
    derivation: Derivation

    @property
    def conjugate(self) -> bool:
        """Whether every latent has a conjugate factor."""
        return not self.obstacles

    @property
    def free(self) -> tuple[str, ...]:
        """The latents that get a Gaussian factor instead, so that the others have conjugate ones."""
        return self.derivation.free if self.blocks else ()


def equations(
    fn: Callable[..., Any], data: Mapping[str, Any] | None = None, *, blocks: Sequence[tuple[str, ...]] = ()
) -> Equations:
    """Derive and write the coordinate updates of a NumPyro model. Nothing is compiled."""
    derivation = derive(fn, data, blocks=blocks)
    if not derivation.refusals:
        return written(derivation, {})
    freed = free_fewest(fn, data, blocks=blocks, first=derivation)
    usable = freed is not None and all(is_fixed(freed.sites[name].support) for name in freed.free)
    # Where a density is missing, so are terms of its latents' updates: nothing is printed that is not run.
    shown = freed if freed is not None and usable else replace(derivation, blocks={}, terms=())
    return written(shown, derivation.refusals)


def written(derivation: Derivation, refusals: Mapping[str, ModelError]) -> Equations:
    """The equations of an analysed model; `refusals` are what kept it from being wholly conjugate."""
    writer = Writer(derivation)
    updates = writer.updates()
    letters = writer.labels.letters(set(derivation.sites) | set(derivation.computation[1]))
    normal = frozenset(name for name, u in updates.items() if "m" in _symbols(u) and "κ" not in _symbols(u))
    shared = Counter(s for u in updates.values() for s in _symbols(u))
    suffixes = {n: n for n, u in updates.items() if any(shared[s] > 1 for s in _symbols(u))}
    text = Notation(letters, suffixes, normal)
    symbolic = Notation(letters, {n: text_to_latex(n) for n in suffixes}, normal, latex=True)
    used = {label for u in updates.values() for e in u.equations for label in _used(e)}
    return Equations(
        tuple(_block(derivation, u, text) for u in updates.values()),
        tuple(_block(derivation, u, symbolic) for u in updates.values()),
        tuple(Obstacle(site, e.what, e.where, e.remedy) for site, e in refusals.items()),
        {letters[x]: (writer.labels.plate_of(x), x.size) for x in sorted(used, key=lambda x: letters[x])},
        writer.provenance.constants,
        updates,
        derivation,
    )


def text_to_latex(name: str) -> str:
    """A block's name in math mode."""
    from jensen.interop.latex import symbol

    return ", ".join(symbol(part) for part in name.split("+"))


def _symbols(update: Update) -> set[str]:
    """The letters of a factor's parameters."""
    names = {e.parameter.name for e in update.equations}
    if names & {"log φ", "w log φ"}:
        return {"φ"}
    return {"m", "s"} if "1/s²" in names else names


def _used(equation: Equation) -> set[Any]:
    found: set[Any] = set()

    def visit(expr: Any) -> None:
        if isinstance(expr, Index):
            found.add(expr.label)
        for name in ("indices", "args", "terms", "factors", "atoms", "left", "right", "parts", "body"):
            child = getattr(expr, name, None)
            for item in child if isinstance(child, (tuple, frozenset)) else [child]:
                for part in item if isinstance(item, tuple) else [item]:
                    for leaf in part if isinstance(part, tuple) else [part]:
                        if hasattr(leaf, "__dataclass_fields__"):
                            visit(leaf)

    for _, term in equation.terms:
        visit(term)
    for place in equation.indices:
        visit(place)
    return found


def _block(derivation: Derivation, update: Update, notation: Notation) -> BlockText:
    sites = [notation.site(s, places) for s, places in update.indices.items()]
    others: dict[str, None] = {}
    for entry in derivation.terms:
        atoms = {a.site for a in entry.term.atoms}
        if atoms & set(update.block.sites):
            others |= dict.fromkeys(sorted(atoms - set(update.block.sites)))
            if derivation.sites[entry.site].observed:
                others[entry.site] = None
    named = {name for e in update.equations for _, t in e.terms for name in _named_arrays(t)}
    others |= dict.fromkeys(name for name in derivation.free if name in named)
    bar = r" \mid " if notation.latex else " | "
    given = ", ".join(notation.name(o) for o in others)
    left = ", ".join(sites)
    family = update.family
    if notation.latex:
        name = family.split("(")[0]
        head, words = rf"q({left}) &= \mathrm{{{name}}}", rf"\mathrm{{{name}}}"
        whole = rf"p({left}{bar if given else ''}{given}) &= {words}"
    else:
        head = f"q({left}) = {_named(update, notation)}"
        whole = f"p({left}{bar if given else ''}{given}) = {family.split('(')[0]}"
    conditional = tuple(_line(update, e, replace(notation, at_point=True)) for e in update.equations)
    lines = tuple(_line(update, e, notation) for e in update.equations)
    return BlockText(update.block.name, head, whole, conditional, lines)


def _named_arrays(expr: Expr) -> set[str]:
    own = {expr.name} if isinstance(expr, Element) else set()
    return own.union(*(_named_arrays(child) for child in children(expr)))


def _named(update: Update, notation: Notation) -> str:
    """`Normal(m_k, s²_k)`: the family with its parameters' indices, matrices without."""
    name, _, inner = update.family.partition("(")
    suffix, kept = notation.suffixes.get(update.block.name, ""), {e.parameter.name: _kept(e) for e in update.equations}
    if any(len(symbol.strip("S⁻¹ h=m,)")) == 0 for symbol in [inner]) or "τ" in inner or "Λ" in inner:
        return update.family
    symbols = []
    for symbol in inner.rstrip(")").split(", "):
        indices = kept.get({"s²": "1/s²", "φ": "log φ"}.get(symbol, symbol))
        symbols.append(symbol if indices is None else notation.subscripted(symbol, indices, suffix))
    return f"{name}({', '.join(symbols)})" if inner else update.family


def _line(update: Update, equation: Equation, notation: Notation) -> Line:
    parameter = equation.parameter
    suffix = "" if notation.at_point else notation.suffixes.get(update.block.name, "")
    weights = parameter.name.startswith(WEIGHTS)
    if weights and notation.at_point:
        left, sign = _weight_at_point(update, equation, notation), "∝"
    elif notation.at_point:
        left, sign = _worded(parameter.word, notation), "="
    else:
        left, sign = _symbol(parameter.name, equation, notation, suffix), "∝" if weights else "="
    opening = closing = ""
    if weights:
        opening, closing = (r"\exp\Bigl[", r"\Bigr]") if notation.latex else ("exp(", ")")
    several = len(equation.terms) > 1
    if parameter.front:
        opening = _front(parameter.front, equation, notation, suffix)
        bracket = several or any(_is_sum(t) for _, t in equation.terms)
        if bracket:
            opening += r" \Bigl[" if notation.latex else "("
            closing = r" \Bigr]" if notation.latex else ")"
    terms = equation.terms
    if weights:  # what does not depend on the value is part of the constant
        value = {i.label for i in equation.indices if isinstance(i, Index)} - _rows(update)
        kept = [(site, _varying(term, value)) for site, term in terms]
        terms = tuple((site, term) for site, term in kept if term is not None)
    tight = PRODUCT if parameter.front and not several and not closing else SUM
    parts = tuple((site, notation.write(term, tight)) for site, term in terms)
    if not parts:
        parts = (("", "0"),)
    if notation.latex and sign == "∝":
        sign = r"\propto"
    return Line(left, sign, opening, parts, closing)


def _rows(update: Update) -> set[Any]:
    """The labels of the block's own sites, which number its factors."""
    return {p.label for places in update.indices.values() for p in places if isinstance(p, Index)}


def _varying(expr: Expr, labels: set[Any]) -> Expr | None:
    """The part of a sum that depends on these labels."""
    if isinstance(expr, Sum):
        kept = [t for t in expr.terms if labels_of(t) & labels]
        return sum_of(kept) if kept else None
    return expr if labels_of(expr) & labels else None


def _is_sum(expr: Expr) -> bool:
    return isinstance(expr, Sum)


def _worded(word: str, notation: Notation) -> str:
    return rf"\mathrm{{{word.replace(' × ', ' x ').replace(' ', chr(92) + ' ')}}}" if notation.latex else word


def _kept(equation: Equation) -> tuple[Expr, ...]:
    return tuple(i for i in equation.indices if not isinstance(i, Number))


def _symbol(name: str, equation: Equation, notation: Notation, suffix: str) -> str:
    kept = _kept(equation)
    if name == "log φ":
        return notation.subscripted(r"\phi" if notation.latex else "φ", kept, suffix)
    if name == "w log φ":
        return (
            rf"(\phi_{{{', '.join(map(notation.write, kept))}}})^w"
            if notation.latex
            else (f"({notation.subscripted('φ', kept, suffix)})^w")
        )
    if name.startswith("η["):
        return notation.subscripted(r"\eta" if notation.latex else name, kept, suffix)
    if name.startswith("log ψ"):
        return notation.subscripted(r"\psi" if notation.latex else "ψ", kept, suffix)
    if name == "1/s²":
        return "1/" + notation.squared("s", kept, suffix)
    if name == "S⁻¹" and notation.latex:
        above = f"^{{{suffix}}}" if suffix else ""
        marks = ", ".join(notation.write(i) for i in kept)
        return rf"[{{S{above}}}^{{-1}}]_{{{marks}}}"
    if name.startswith("b +"):
        if notation.latex:
            return notation.subscripted("b", kept, suffix) + r" + \frac{1}{2} \kappa m^{2}"
        return notation.subscripted("b", kept, suffix) + " + κm²/2"
    return notation.subscripted(LATEX.get(name, _greek(name)) if notation.latex else name, kept, suffix)


def _greek(name: str) -> str:
    return rf"\Lambda{{}}_{{{name[1:]}}}" if name.startswith("Λ") else name if len(name) == 1 else rf"\mathrm{{{name}}}"


def _weight_at_point(update: Update, equation: Equation, notation: Notation) -> str:
    latents = [(s, tuple(p for p in places if not isinstance(p, Number))) for s, places in update.indices.items()]
    if len(latents) == 1:
        (site, _), *_ = latents
        *rows, value = _kept(equation)
        return f"p({notation.site(site, tuple(rows))} = {notation.write(value)})"
    return _symbol(equation.parameter.name, equation, notation, "")


def _front(front: str, equation: Equation, notation: Notation, suffix: str) -> str:
    kept = _kept(equation)
    if notation.at_point:
        return r"\mathrm{precision}^{-1}" if notation.latex else "precision⁻¹ "
    if front == "1/s²":
        return notation.squared("s", kept, suffix) + " "
    one = r"\kappa" if notation.latex else "κ"
    text = notation.subscripted(one, kept, suffix)
    return rf"\frac{{1}}{{{text}}}" if notation.latex else f"1/{text} "
