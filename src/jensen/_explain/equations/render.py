"""Blocks as readable equations: the complete conditional, the update with the site of every term, and refusals."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jensen._base.errors import ModelError
from jensen._conjugate.algebra.derived import Derivation, derive
from jensen._conjugate.algebra.partial import free_fewest
from jensen._explain.equations.expression import (
    Element,
    Expr,
    Index,
    Number,
    Sum,
    averaged,
    children,
    labels_of,
    sum_of,
)
from jensen._explain.equations.families import Parameter
from jensen._explain.equations.notation import PRODUCT, SUM, Notation
from jensen._explain.equations.symbols import Symbols, letters_in
from jensen._explain.equations.update import Equation, Update, Writer
from jensen._program.analysis import is_fixed

WEIGHTS = ("log φ", "w log φ", "log ψ")
"""Parameters that are written as proportional to exp(·)."""


@dataclass(frozen=True)
class Line:
    """`left sign opening parts closing`: one parameter; a part is (the site that it comes from, text), in writing."""

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
    names = {*derivation.sites, *derivation.computation[1], *writer.provenance.constants}
    normal = frozenset(name for name, u in updates.items() if u.equations[0].parameter.name == "1/s²")
    shared = Counter(letter for u in updates.values() for letter in _letters(u))
    letters = writer.labels.letters(names | set(shared))
    suffixes = {n: n for n, u in updates.items() if any(shared[letter] > 1 for letter in _letters(u))}
    shapes = {site.name: tuple(site.shape) for site in derivation.sites.values()}
    common = {"normal": normal, "symbols": Symbols.of(names), "shapes": shapes}
    common["free"] = frozenset(writer.provenance.holding(derivation.free))
    text = Notation(letters, suffixes, **common)
    symbolic = Notation(letters, {n: _joint(n, common["symbols"]) for n in suffixes}, **common, latex=True)
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


def _joint(name: str, symbols: Symbols) -> str:
    """A block's name in math mode."""
    return ", ".join(symbols.name(part, latex=True) for part in name.split("+"))


def _letters(update: Update) -> set[str]:
    """The letters of a factor's parameters."""
    return letters_in(update.family).union(*(letters_in(e.parameter.name) for e in update.equations))


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
        family = _relettered(update, notation)
        whole = f"p({left}{bar if given else ''}{given}) = {family.split('(')[0]}"
    conditional = tuple(_line(update, e, replace(notation, at_point=True)) for e in update.equations)
    lines = tuple(_line(update, e, notation) for e in update.equations)
    return BlockText(update.block.name, head, whole, conditional, lines)


def _named_arrays(expr: Expr) -> set[str]:
    own = {expr.name} if isinstance(expr, Element) else set()
    return own.union(*(_named_arrays(child) for child in children(expr)))


def _spare(update: Update) -> dict[str, str]:
    """Letter of a parameter -> its family's own word for it."""
    return {e.parameter.name: e.parameter.spare for e in update.equations}


def _relettered(update: Update, notation: Notation) -> str:
    """The family with its parameters in letters that no name has; τ is the precision in the block of a mean."""
    precision = update.block.sites[-1] if len(update.block.sites) > 1 else "τ"
    suffix = notation.suffixes.get(update.block.name)
    family = notation.symbols.letters(update.family, _spare(update), f"^{suffix}" if suffix else "")
    return family.replace("τ", precision)


def _named(update: Update, notation: Notation) -> str:
    """`Normal(m_k, s²_k)`: the family with its parameters' indices, matrices without."""
    name, _, inner = update.family.partition("(")
    suffix, kept = notation.suffixes.get(update.block.name, ""), {e.parameter.name: _kept(e) for e in update.equations}
    if not inner or any(sign in inner for sign in ("=", "τ", "Λ")):
        return _relettered(update, notation)
    symbols = []
    for symbol in inner.rstrip(")").split(", "):
        indices = kept.get({"s²": "1/s²", "φ": "log φ"}.get(symbol, symbol))
        symbol = notation.symbols.letters(symbol, _spare(update))
        symbols.append(symbol if indices is None else notation.subscripted(symbol, indices, suffix))
    return f"{name}({', '.join(symbols)})"


def _line(update: Update, equation: Equation, notation: Notation) -> Line:
    parameter = equation.parameter
    suffix = "" if notation.at_point else notation.suffixes.get(update.block.name, "")
    weights = parameter.name.startswith(WEIGHTS)
    if weights and notation.at_point:
        left, sign = _weight_at_point(update, equation, notation), "∝"
    elif notation.at_point:
        left, sign = _worded(parameter.word, notation), "="
    else:
        left, sign = _symbol(parameter, equation, notation, suffix), "∝" if weights else "="
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
    if not notation.at_point:
        terms = tuple((site, averaged(term, notation.free)) for site, term in terms)
    if weights:  # what does not depend on the value is part of the constant
        value = {i.label for i in equation.indices if isinstance(i, Index)} - _rows(update)
        kept = [(site, _varying(term, value)) for site, term in terms]
        terms = tuple((site, term) for site, term in kept if term is not None)
    tight = PRODUCT if parameter.front and not several and not closing else SUM
    parts = tuple((notation.name(site), notation.write(term, tight)) for site, term in terms)
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
    word = notation.symbols.word(word)
    return rf"\mathrm{{{word.replace(' × ', ' x ').replace(' ', chr(92) + ' ')}}}" if notation.latex else word


def _kept(equation: Equation) -> tuple[Expr, ...]:
    return tuple(i for i in equation.indices if not isinstance(i, Number))


def _symbol(parameter: Parameter, equation: Equation, notation: Notation, suffix: str) -> str:
    name, kept, latex = parameter.name, _kept(equation), notation.latex
    if name == "w log φ":
        weights = notation.subscripted(notation.letter("φ"), kept, "" if latex else suffix)
        return f"({weights})^{notation.letter('w')}"
    for start, letter in {"log φ": "φ", "log ψ": "ψ", "η[": "η"}.items():
        if name.startswith(start):
            text = name if letter == "η" and not latex else letter
            return notation.subscripted(text.replace(letter, notation.letter(letter)), kept, suffix)
    if name == "1/s²":
        return "1/" + notation.squared("s", kept, suffix)
    if name == "S⁻¹" and latex:
        above = f"^{{{suffix}}}" if suffix else ""
        marks = ", ".join(notation.write(i) for i in kept)
        return rf"[{{{notation.letter('S')}{above}}}^{{-1}}]_{{{marks}}}"
    if name.startswith("b +"):
        b, count, mean = (notation.letter(letter) for letter in "bκm")
        gap = " " if len(count) > 1 else ""
        square = rf" + \frac{{1}}{{2}} {count} {mean}^{{2}}" if latex else f" + {count}{gap}{mean}²/2"
        return notation.subscripted(b, kept, suffix) + square
    letter, rest = notation.letter(name[0], parameter.spare), name[1:]  # such as Λ12, S⁻¹
    return notation.subscripted(rf"{letter}{{}}_{{{rest}}}" if latex and rest else letter + rest, kept, suffix)


def _weight_at_point(update: Update, equation: Equation, notation: Notation) -> str:
    latents = [(s, tuple(p for p in places if not isinstance(p, Number))) for s, places in update.indices.items()]
    if len(latents) == 1:
        (site, _), *_ = latents
        *rows, value = _kept(equation)
        return f"p({notation.site(site, tuple(rows))} = {notation.write(value)})"
    return _symbol(equation.parameter, equation, notation, "")


def _front(front: str, equation: Equation, notation: Notation, suffix: str) -> str:
    kept = _kept(equation)
    if notation.at_point:
        word = _worded("precision", notation)
        word = notation.bracketed(word) if " " in word else word
        return word + ("^{-1}" if notation.latex else "⁻¹ ")
    if front == "1/s²":
        return notation.squared("s", kept, suffix) + " "
    text = notation.subscripted(notation.letter("κ"), kept, suffix)
    return rf"\frac{{1}}{{{text}}}" if notation.latex else f"1/{text} "
