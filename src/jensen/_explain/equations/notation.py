"""Expressions in writing: Unicode text for terminals, LaTeX for papers.

Expectations are written as E[·], with the usual short forms where a factor has them: m for E[z], φ for the probability
of a value. With `at_point` the same expression is that of the complete conditional: the statistics themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from jensen._conjugate.algebra.statistics import STATISTICS
from jensen._explain.equations.expression import (
    Apply,
    Element,
    Equal,
    Expr,
    Index,
    Mean,
    Moment,
    Number,
    Product,
    Square,
    Sum,
    Total,
    product,
)
from jensen._explain.equations.symbols import Symbols

SUM, PRODUCT, ATOM = 0, 1, 2
"""How tightly an expression binds."""
_SUPERSCRIPTS = str.maketrans("0123456789-.", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻·")


@dataclass(frozen=True)
class Notation:
    """How expressions are written.

    Attributes:
        letters: label -> letter. normal: blocks whose expectations are written m and m² + s².
        latex: LaTeX instead of text. at_point: statistics instead of their expectations.
        suffixes: block -> the superscript that tells its parameters from those of other blocks, or nothing.
        symbols: what names and parameters are called. shapes: site -> shape, by which axes of length 1 have no index.
        free: arrays that are latents, or depend on them: expectations are over them too.
    """

    letters: Mapping[Any, str]
    suffixes: Mapping[str, str]
    normal: frozenset[str]
    latex: bool = False
    at_point: bool = False
    symbols: Symbols = field(default_factory=Symbols)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    free: frozenset[str] = frozenset()

    def conditional(self) -> "Notation":
        """The notation of complete conditionals."""
        return replace(self, at_point=True)

    def write(self, expr: Expr, outer: int = SUM) -> str:
        """The expression, in brackets where `outer` binds more tightly."""
        text, binding = self._written(expr)
        return self.bracketed(text) if binding < outer else text

    def bracketed(self, text: str) -> str:
        """The text in brackets."""
        return rf"\left({text}\right)" if self.latex else f"({text})"

    def _written(self, expr: Expr) -> tuple[str, int]:
        if isinstance(expr, Number):
            return self.number(expr.value)
        if isinstance(expr, Index):
            letter = self.letters[expr.label]
            return (letter, ATOM) if not expr.shift else (f"{letter}{expr.shift:+d}", SUM)
        if isinstance(expr, Element):
            return self.subscripted(self.name(expr.name), expr.indices), ATOM
        if isinstance(expr, Moment):
            return self._moment(expr)
        if isinstance(expr, Mean):
            return self.expected(self.conditional().write(expr.body)), ATOM
        if isinstance(expr, Square):
            return self._square(expr)
        if isinstance(expr, Equal):
            return f"[{self.write(expr.left)} = {self.write(expr.right)}]", ATOM
        if isinstance(expr, Apply):
            return self._apply(expr), ATOM
        if isinstance(expr, Product):
            return self._product(expr)
        if isinstance(expr, Sum):
            return self._sum(expr), SUM
        return self._total(expr), PRODUCT

    def number(self, value: float) -> tuple[str, int]:
        """A number: a small fraction where it is one, else six digits."""
        if np.isnan(value):
            return (r"\mathrm{NaN}" if self.latex else "NaN"), ATOM
        if np.isinf(value):
            sign = "-" if value < 0 else ""
            return sign + (r"\infty" if self.latex else "∞"), SUM if sign else ATOM
        if float(f"{value:.4g}") == value or value.is_integer():
            text = f"{value:.10g}"
        else:
            near = Fraction(value).limit_denominator(360)
            if near and abs(float(near) - value) < 1e-13 * abs(value) and near.denominator > 1:
                if self.latex:
                    sign = "-" if near < 0 else ""
                    return rf"{sign}\frac{{{abs(near.numerator)}}}{{{near.denominator}}}", PRODUCT
                return f"{near.numerator}/{near.denominator}", PRODUCT
            text = f"{value:.6g}"
        if "e" in text and self.latex:
            mantissa, exponent = text.split("e")
            text = rf"{mantissa} \cdot 10^{{{int(exponent)}}}"
        return text, ATOM if value >= 0 else SUM

    def name(self, name: str) -> str:
        """A site or an argument."""
        return self.symbols.name(name, self.latex)

    def letter(self, letter: str, spare: str = "") -> str:
        """The letter of a parameter."""
        return self.symbols.letter(letter, self.latex, spare)

    def expected(self, text: str) -> str:
        """E[text]."""
        return rf"\mathbb{{E}}[{text}]" if self.latex else f"{self.symbols.operator('E')}[{text}]"

    def subscripted(self, base: str, indices: tuple[Expr, ...], suffix: str = "") -> str:
        """`x_ik`, `x[group_i, 0]`: the indices that are not of an axis of length 1."""
        marks = [self.write(i) for i in indices]
        if self.latex:
            above = rf"^{{{suffix}}}" if suffix else ""
            return f"{base}{above}" + (f"_{{{', '.join(marks)}}}" if marks else "")
        above = f"^{suffix}" if suffix else ""
        if not marks:
            return base + above
        plain = all(len(m) == 1 for m in marks)
        return f"{base}{above}_{''.join(marks)}" if plain else f"{base}{above}[{','.join(marks)}]"

    def site(self, name: str, places: tuple[Expr, ...]) -> str:
        """An entry of a site."""
        return self.subscripted(self.name(name), self.kept(name, places))

    def kept(self, name: str, places: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """The indices of a site (of a determinant: of its leading axes) without those of axes of length 1."""
        return tuple(p for p, size in zip(places, self.shapes[name], strict=False) if size != 1)

    def statistic(self, atom: tuple[str, str, float, tuple[Expr, ...]]) -> str:
        """A statistic of a latent at a point."""
        site, kind, power, places = atom
        if kind == "indicator":
            value, *rows = places
            return f"[{self.site(site, tuple(rows))} = {self.write(value)}]"
        where = self.site(site, places)
        if kind == "entropy":
            return f"{'H' if self.latex else self.symbols.operator('H')}[{where}]"
        if kind == "power":
            return where if power == 1.0 else self.raised(where, power)
        if kind == "inverse":
            return self.raised(self.name(site), -1.0) + self.subscripted("", self.kept(site, places))
        return (STATISTICS[kind].latex if self.latex else STATISTICS[kind].text).format(where)

    def raised(self, base: str, power: float) -> str:
        """base to a power, in writing."""
        text = f"{power:g}"
        if self.latex:
            return f"{base}^{{{text}}}" if "^" not in base else rf"{{\left({base}\right)}}^{{{text}}}"
        if power == 0.5:
            return f"√{base}"
        if "." in text:
            return f"{base}^({text})"
        return base + text.translate(_SUPERSCRIPTS)

    def _moment(self, moment: Moment) -> tuple[str, int]:
        inner = [self.statistic(atom) for atom in moment.atoms]
        joined = (" " if not self.latex else r"\, ").join(inner)
        if self.at_point:
            return joined, PRODUCT if len(inner) > 1 else ATOM
        suffix = self.suffixes.get(moment.block, "")
        site, kind, power, places = moment.atoms[0]
        if moment.block in self.normal and len(moment.atoms) == 1 and power in (1.0, 2.0):
            kept = self.kept(site, places)
            if power == 1.0:
                return self.subscripted(self.letter("m"), kept, suffix), ATOM
            return f"{self.squared('m', kept, suffix)} + {self.squared('s', kept, suffix)}", SUM
        if len(moment.atoms) == 1 and kind == "indicator":
            value, *rows = places
            return self.subscripted(self.letter("φ"), (*self.kept(site, tuple(rows)), value), suffix), ATOM
        return self.expected(joined), ATOM

    def squared(self, letter: str, places: tuple[Expr, ...], suffix: str = "") -> str:
        """m²_k."""
        base = self.letter(letter)
        if self.latex:
            above = f"{suffix}, 2" if suffix else "2"
            marks = ", ".join(self.write(p) for p in places)
            return rf"{base}^{{{above}}}" + (f"_{{{marks}}}" if marks else "")
        return self.subscripted(f"{base}²", places, suffix)

    def _square(self, expr: Square) -> tuple[str, int]:
        assert isinstance(expr.right, Moment)
        point = self.conditional()
        gap = f"{point.write(expr.left)} - {point.write(expr.right)}"
        body = rf"({gap})^2" if self.latex else f"({gap})²"
        if self.at_point:
            return body, ATOM
        return self.expected(body), ATOM

    def _apply(self, expr: Apply) -> str:
        args = [self.write(a) for a in expr.args]
        infix = {"eq": "=", "lt": "<", "gt": ">", "le": "≤", "ge": "≥", "ne": "≠"}
        if expr.name in infix:
            sign = {"≤": r"\le", "≥": r"\ge", "≠": r"\ne"}.get(infix[expr.name]) if self.latex else None
            return f"[{args[0]} {sign or infix[expr.name]} {args[1]}]"
        if expr.name == "where":
            word = r"\ \mathrm{if}\ " if self.latex else " if "
            other = r"\ \mathrm{else}\ " if self.latex else " else "
            return self.bracketed(f"{args[1]}{word}{args[0]}{other}{args[2]}")
        names = {"lgamma": (r"\log\Gamma", "log Γ"), "digamma": (r"\psi", "ψ"), "log": (r"\log", "log")}
        names |= {"exp": (r"\exp", "exp"), "not": (r"\neg ", "not ")}
        own = {"lgamma": "Γ", "digamma": "ψ"}.get(expr.name)
        known = names.get(expr.name) if own is None or self.symbols.free(own) else None
        name = known[0 if self.latex else 1] if known else self.name(expr.name)
        return name + self.bracketed(", ".join(args))

    def _product(self, expr: Product) -> tuple[str, int]:
        above = [(b, p) for b, p in expr.factors if p > 0]
        below = [(b, -p) for b, p in expr.factors if p < 0]
        value = expr.coefficient
        sign = "-" if value < 0 else ""
        small = np.isfinite(value) and abs(value) < 1e6
        fraction = Fraction(abs(value)).limit_denominator(360) if small else Fraction(0)
        exact = abs(float(fraction) - abs(value)) < 1e-13 * abs(value) if small else False
        if not exact or (fraction.denominator > 1 and float(f"{value:.2g}") == value and fraction.denominator > 20):
            front, divisor = self.number(abs(value))[0], ""
        else:
            front = "" if fraction.numerator == 1 else str(fraction.numerator)
            divisor = "" if fraction.denominator == 1 else str(fraction.denominator)
        numerator = self._factors(above, front)
        denominator = self._factors(below, divisor)
        if not denominator:
            return f"{sign}{numerator}", SUM if sign else PRODUCT
        if self.latex:
            return rf"{sign}\frac{{{numerator or 1}}}{{{denominator}}}", SUM if sign else PRODUCT
        many = len(below) + bool(divisor) > 1
        text = f"{sign}{numerator or 1}/{self.bracketed(denominator) if many else denominator}"
        return text, SUM if sign else PRODUCT

    def _factors(self, factors: list[tuple[Expr, float]], front: str) -> str:
        if len(factors) == 1 and not front and factors[0][1] == 1.0 and isinstance(factors[0][0], Sum):
            return self.bracketed(self.write(factors[0][0]))
        ranked = []
        for base, p in factors:
            text = self.write(base, ATOM if p != 1.0 else PRODUCT)
            ranked.append((_rank(base), self._power(base, text, p) if p != 1.0 else text))
        written = [text for _, text in sorted(ranked)]
        space = r"\, " if self.latex else " "
        return space.join(([front] if front else []) + written)

    def _power(self, base: Expr, text: str, p: float) -> str:
        if isinstance(base, Element) and float(p).is_integer():
            if self.latex:
                marks = ", ".join(self.write(i) for i in base.indices)
                return rf"{self.name(base.name)}^{{{p:g}}}" + (f"_{{{marks}}}" if marks else "")
            return self.subscripted(self.name(base.name) + f"{p:g}".translate(_SUPERSCRIPTS), base.indices)
        return self.raised(text, p)

    def _sum(self, expr: Sum) -> str:
        text = ""
        for term in sorted(expr.terms, key=_negative):
            negative = _negative(term)
            part = self.write(product([term], -1.0) if negative else term, PRODUCT if negative else SUM)
            text += (" - " if negative else " + ") + part if text else ("-" if negative else "") + part
        return text

    def _total(self, expr: Total) -> str:
        over = "".join(sorted(self.letters[label] for label in expr.over))
        body = self.write(expr.body, PRODUCT)
        return rf"\sum_{{{','.join(over)}}} {body}" if self.latex else f"{self.symbols.operator('Σ')}_{over} {body}"


def _negative(expr: Expr) -> bool:
    if isinstance(expr, Number):
        return expr.value < 0
    if isinstance(expr, Product):
        return expr.coefficient < 0
    return False


def _rank(base: Expr) -> tuple[Any, ...]:
    """Factors in the usual order: expectations and data, then brackets, sums last."""
    kinds = {Equal: 0, Moment: 1, Mean: 1, Element: 2, Apply: 3, Square: 4, Sum: 5, Total: 6}
    if isinstance(base, Moment) and base.atoms[0][1] == "indicator":
        return (0, "", "")
    name = base.name if isinstance(base, (Element, Apply)) else base.atoms[0][0] if isinstance(base, Moment) else ""
    second = base.atoms[0][2] if isinstance(base, Moment) else 0
    return (kinds.get(type(base), 1), name, str(second))
