"""Expressions over labelled indices: small trees that are printed, and evaluated on the arrays that they name.

An expression gives one number for each position of its free labels; `Total` sums labels away. Sums and products are
kept flat, with like terms merged, so that equal expressions are equal objects up to order.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy.special import digamma, gammaln

Labelled: TypeAlias = tuple[np.ndarray, tuple[Any, ...]]
"""An array with one label per axis."""


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True)
class Index:
    """The value of a label (0, 1, ...), shifted."""

    label: Any
    shift: int = 0


@dataclass(frozen=True)
class Element:
    """`name[indices]`, an entry of a data array, of constants or of something computed; `array` gives its values, or is
    a function that does.
    """

    name: str
    indices: tuple["Expr", ...]
    array: Any = None

    def __hash__(self) -> int:
        return hash((self.name, self.indices))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Element) and (self.name, self.indices) == (other.name, other.indices)


@dataclass(frozen=True)
class Moment:
    """E_q of a statistic: an entry of a block's mean parameters.

    `atoms` are (site, kind, power, indices) of the product whose expectation it is.
    """

    block: str
    stat: str
    indices: tuple["Expr", ...]
    atoms: tuple[tuple[str, str, float, tuple["Expr", ...]], ...]


@dataclass(frozen=True)
class Mean:
    """E[body] over latents whose values are named arrays, and over every moment inside."""

    body: "Expr"


@dataclass(frozen=True)
class Square:
    """E[(known - z)²] or E[(z - w)²], from its three expectations."""

    left: "Expr"
    right: "Expr"
    parts: "Expr"


@dataclass(frozen=True)
class Equal:
    """1 where the two indices agree, 0 elsewhere."""

    left: "Expr"
    right: "Expr"


@dataclass(frozen=True)
class Apply:
    """A function of expressions; `fn` evaluates it."""

    name: str
    args: tuple["Expr", ...]
    fn: Any = None

    def __hash__(self) -> int:
        return hash((self.name, self.args))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Apply) and (self.name, self.args) == (other.name, other.args)


@dataclass(frozen=True)
class Product:
    """coefficient · Π base**power."""

    coefficient: float
    factors: frozenset[tuple["Expr", float]]


@dataclass(frozen=True)
class Sum:
    """Σ of terms."""

    terms: tuple["Expr", ...]


@dataclass(frozen=True)
class Total:
    """Σ over labels; `over` are the labels."""

    over: frozenset[Any]
    body: "Expr"


Expr: TypeAlias = Number | Index | Element | Moment | Mean | Square | Equal | Apply | Product | Sum | Total
ONE, ZERO = Number(1.0), Number(0.0)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log": np.log, "exp": np.exp, "lgamma": gammaln, "digamma": digamma, "abs": np.abs, "sign": np.sign,
    "log1p": np.log1p, "tanh": np.tanh, "max": np.maximum, "min": np.minimum, "floor": np.floor, "logistic":
    lambda a: 1.0 / (1.0 + np.exp(-a)), "where": np.where, "isnan": np.isnan, "not": np.logical_not,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "gt": np.greater, "le": np.less_equal, "ge": np.greater_equal,
}  # fmt: skip


def product(factors: Iterable[Expr], coefficient: float = 1.0) -> Expr:
    """The product, flat, equal bases merged."""
    powers: dict[Expr, float] = {}

    def take(expr: Expr, power: float) -> None:
        nonlocal coefficient
        if isinstance(expr, Number):
            coefficient *= _raised(expr.value, power)
        elif isinstance(expr, Product):
            coefficient *= _raised(expr.coefficient, power)
            for base, p in expr.factors:
                take(base, p * power)
        elif isinstance(expr, Equal):
            powers[expr] = 1.0
        else:
            powers[expr] = powers.get(expr, 0.0) + power

    for factor in factors:
        take(factor, 1.0)
    kept = frozenset((base, p) for base, p in powers.items() if p != 0.0)
    if coefficient == 0.0 or not kept:
        return Number(coefficient)
    if coefficient == 1.0 and len(kept) == 1 and next(iter(kept))[1] == 1.0:
        return next(iter(kept))[0]
    return Product(coefficient, kept)


def _raised(value: float, exponent: float) -> float:
    """value**exponent as arrays have it: infinite or NaN where Python raises."""
    with np.errstate(all="ignore"):
        return float(np.power(float(value), exponent))


def power(base: Expr, exponent: float) -> Expr:
    """base**exponent."""
    if exponent == 1.0:
        return base
    if isinstance(base, Number):
        return Number(_raised(base.value, exponent))
    if isinstance(base, Product) and (base.coefficient > 0 or float(exponent).is_integer()):
        return Product(_raised(base.coefficient, exponent), frozenset((b, p * exponent) for b, p in base.factors))
    return Product(1.0, frozenset({(base, float(exponent))}))


def parts(expr: Expr) -> tuple[float, Expr]:
    """(coefficient, the rest)."""
    if isinstance(expr, Number):
        return expr.value, ONE
    if isinstance(expr, Product) and expr.coefficient != 1.0:
        return expr.coefficient, product([Product(1.0, expr.factors)])
    if isinstance(expr, Total):
        coefficient, body = parts(expr.body)
        return coefficient, Total(expr.over, body)
    return 1.0, expr


def scaled(expr: Expr, coefficient: float) -> Expr:
    """coefficient · expr, into sums and totals."""
    if isinstance(expr, Sum):
        return sum_of(scaled(t, coefficient) for t in expr.terms)
    if isinstance(expr, Total):
        return Total(expr.over, scaled(expr.body, coefficient))
    return product([expr], coefficient)


def sum_of(terms: Iterable[Expr]) -> Expr:
    """The sum, flat, like terms merged."""
    found: dict[Expr, float] = {}

    def take(expr: Expr) -> None:
        if isinstance(expr, Sum):
            for term in expr.terms:
                take(term)
            return
        coefficient, rest = parts(expr)
        found[rest] = found.get(rest, 0.0) + coefficient

    for term in terms:
        take(term)
    kept = [product([rest], c) for rest, c in found.items() if c != 0.0]
    if not kept:
        return ZERO
    return kept[0] if len(kept) == 1 else Sum(tuple(kept))


def total(labels: Iterable[Any], body: Expr) -> Expr:
    """Σ over the labels."""
    over = frozenset(labels)
    if not over:
        return body
    if isinstance(body, Total):
        return Total(over | body.over, body.body)
    return Total(over, body)


def labels_of(expr: Expr) -> set[Any]:
    """The free labels."""
    if isinstance(expr, Index):
        return {expr.label}
    if isinstance(expr, Total):
        return labels_of(expr.body) - expr.over
    return set().union(*(labels_of(child) for child in children(expr)))


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside."""
    if isinstance(expr, (Element, Moment)):
        return expr.indices
    if isinstance(expr, Square):
        return (expr.left, expr.right)
    if isinstance(expr, Equal):
        return (expr.left, expr.right)
    if isinstance(expr, Apply):
        return expr.args
    if isinstance(expr, Product):
        return tuple(base for base, _ in expr.factors)
    if isinstance(expr, Sum):
        return expr.terms
    if isinstance(expr, (Total, Mean)):
        return (expr.body,)
    return ()


def mapped(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """The tree with every node for which `change` gives another replaced, from the top."""
    new = change(expr)
    if new is not None:
        return new

    def again(child: Expr) -> Expr:
        return mapped(child, change)

    if isinstance(expr, Element):
        return Element(expr.name, tuple(map(again, expr.indices)), expr.array)
    if isinstance(expr, Moment):
        atoms = tuple((site, kind, p, tuple(map(again, places))) for site, kind, p, places in expr.atoms)
        return Moment(expr.block, expr.stat, tuple(map(again, expr.indices)), atoms)
    if isinstance(expr, Mean):
        return Mean(again(expr.body))
    if isinstance(expr, Square):
        return Square(again(expr.left), again(expr.right), again(expr.parts))
    if isinstance(expr, Equal):
        return Equal(again(expr.left), again(expr.right))
    if isinstance(expr, Apply):
        return Apply(expr.name, tuple(map(again, expr.args)), expr.fn)
    if isinstance(expr, Product):
        return product([power(again(base), p) for base, p in expr.factors], expr.coefficient)
    if isinstance(expr, Sum):
        return sum_of(map(again, expr.terms))
    if isinstance(expr, Total):
        return total(expr.over, again(expr.body))
    return expr


def averaged(expr: Expr, names: Container[str]) -> Expr:
    """The expectation where the arrays with these names are latents, independent of all moments.

    E goes into sums, and around all factors of a product that hold such an array.
    """
    if not _holds(expr, names) or isinstance(expr, Square):
        return expr
    if isinstance(expr, Sum):
        return sum_of(averaged(term, names) for term in expr.terms)
    if isinstance(expr, Total):
        return total(expr.over, averaged(expr.body, names))
    if not isinstance(expr, Product):
        return Mean(expr)
    inside = frozenset((base, p) for base, p in expr.factors if _holds(base, names))
    outside = product([Product(1.0, expr.factors - inside)] if expr.factors - inside else [], expr.coefficient)
    return product([outside, averaged(next(iter(inside))[0], names) if _plain(inside) else Mean(Product(1.0, inside))])


def _plain(factors: frozenset[tuple[Expr, float]]) -> bool:
    return len(factors) == 1 and next(iter(factors))[1] == 1.0


def _holds(expr: Expr, names: Container[str]) -> bool:
    own = isinstance(expr, Element) and expr.name in names
    return own or any(_holds(child, names) for child in children(expr))


def renamed(expr: Expr, places: Mapping[Any, Expr]) -> Expr:
    """The expression with labels replaced by indices, all at once."""

    def change(node: Expr) -> Expr | None:
        if not isinstance(node, Index) or node.label not in places:
            return None
        new = places[node.label]
        if node.shift == 0:
            return new
        if isinstance(new, Index):
            return Index(new.label, new.shift + node.shift)
        return sum_of([new, Number(node.shift)])

    return mapped(expr, change)


def evaluate(expr: Expr, lookup: Callable[[Expr], Any]) -> Labelled:
    """The value at every position of the free labels; `lookup` gives the array of an `Element` or `Moment`."""
    if isinstance(expr, Number):
        return np.asarray(expr.value), ()
    if isinstance(expr, Index):
        return np.arange(expr.label.size) + expr.shift, (expr.label,)
    if isinstance(expr, (Element, Moment)):
        places = [evaluate(i, lookup) for i in expr.indices]
        array = np.asarray(lookup(expr))
        axes = tuple(dict.fromkeys(label for _, labels in places for label in labels))
        return array[tuple(_spread(p, axes).astype(int) for p in places)] if places else array, axes
    if isinstance(expr, Square):
        return evaluate(expr.parts, lookup)
    if isinstance(expr, Mean):
        raise TypeError("An expectation over named latents is written, not evaluated.")
    if isinstance(expr, Equal):
        return _combined(lambda a, b: (a == b) * 1.0, [evaluate(expr.left, lookup), evaluate(expr.right, lookup)])
    if isinstance(expr, Apply):
        return _combined(expr.fn or FUNCTIONS[expr.name], [evaluate(a, lookup) for a in expr.args])
    if isinstance(expr, Product):
        values = [evaluate(base, lookup) for base, _ in expr.factors]
        powers = [p for _, p in expr.factors]

        def times(*arrays: Any) -> Any:
            result = np.asarray(expr.coefficient)
            for array, p in zip(arrays, powers, strict=True):
                result = result * np.asarray(array, float) ** p
            return result

        return _combined(times, values)
    if isinstance(expr, Sum):
        return _combined(lambda *arrays: sum(arrays[1:], start=arrays[0]), [evaluate(t, lookup) for t in expr.terms])
    array, axes = evaluate(expr.body, lookup)
    missing = [label for label in expr.over if label not in axes]
    kept = tuple(label for label in axes if label not in expr.over)
    summed = array.sum(tuple(i for i, label in enumerate(axes) if label in expr.over))
    return summed * float(np.prod([label.size for label in missing], dtype=float)), kept


def _combined(fn: Callable[..., Any], values: Sequence[Labelled]) -> Labelled:
    axes = tuple(dict.fromkeys(label for _, labels in values for label in labels))
    return np.asarray(fn(*(_spread(v, axes) for v in values))), axes


def _spread(value: Labelled, axes: Sequence[Any]) -> np.ndarray:
    """The array with an axis (possibly of length 1) for each of `axes`."""
    array, labels = value
    ordered = np.transpose(array, sorted(range(len(labels)), key=lambda i: axes.index(labels[i])))
    return ordered.reshape([label.size if label in labels else 1 for label in axes])


def aligned(value: Labelled, axes: Sequence[Any]) -> np.ndarray:
    """The array broadcast to exactly these axes."""
    return np.broadcast_to(_spread(value, axes), [label.size for label in axes])
