"""Sums made readable: terms of one sum together, squares completed, common factors in front."""

from collections.abc import Iterable, Sequence
from typing import Any

from jensen._explain.equations.expression import (
    Expr,
    Moment,
    Number,
    Product,
    Square,
    Sum,
    Total,
    labels_of,
    parts,
    product,
    scaled,
    sum_of,
    total,
)

Factors = dict[Expr, float]


def tidy(terms: Iterable[Expr]) -> Expr:
    """The sum of the terms, those under the same Σ gathered there."""
    groups: dict[frozenset[Any], list[Expr]] = {}
    flat = sum_of(terms)
    for term in flat.terms if isinstance(flat, Sum) else (flat,):
        coefficient, rest = parts(term)
        over, body = (rest.over, scaled(rest.body, coefficient)) if isinstance(rest, Total) else (frozenset(), term)
        groups.setdefault(over, []).extend(body.terms if isinstance(body, Sum) else [body])
    return sum_of(_gathered(over, bodies) for over, bodies in groups.items())


def _gathered(over: frozenset[Any], bodies: Sequence[Expr]) -> Expr:
    """Σ_over of the bodies: common · Σ (rest), factors without a summed label in front of the Σ."""
    bodies = completed(list(bodies))
    factors = [_factors(body)[1] for body in bodies]
    common = {base: p for base, p in factors[0].items() if all(f.get(base) == p for f in factors)}
    if len(bodies) == 1:
        coefficient, _ = _factors(bodies[0])
        inner: Expr = Number(1.0)
    else:
        coefficient = 1.0
        inner = sum_of(_without(body, common) for body in bodies)
        sign, inner = _signed(inner)
        coefficient *= sign
    if not over:
        return product([_product(common), inner], coefficient)
    outside = {b: p for b, p in common.items() if not labels_of(b) & over}
    inside = product([_product({b: p for b, p in common.items() if b not in outside}), inner])
    unused = [label for label in over if label not in labels_of(inside)]
    for label in unused:
        coefficient *= label.size
    summed = total(over - set(unused), inside)
    return product([_product(outside), summed], coefficient)


def _signed(expr: Expr) -> tuple[float, Expr]:
    """-(a + b) for a sum whose terms are all negative; common numbers in front."""
    if not isinstance(expr, Sum):
        return 1.0, expr
    numbers = [_factors(t)[0] for t in expr.terms]
    same = abs(numbers[0]) if len({abs(n) for n in numbers}) == 1 else 1.0
    sign = -1.0 if all(n < 0 for n in numbers) else 1.0
    return same * sign, sum_of(product([t], sign / same) for t in expr.terms)


def _factors(expr: Expr) -> tuple[float, Factors]:
    if isinstance(expr, Number):
        return expr.value, {}
    if isinstance(expr, Product):
        return expr.coefficient, dict(expr.factors)
    return 1.0, {expr: 1.0}


def _product(factors: Factors, coefficient: float = 1.0) -> Expr:
    return product([Product(1.0, frozenset(factors.items()))] if factors else [], coefficient)


def _without(expr: Expr, common: Factors) -> Expr:
    coefficient, factors = _factors(expr)
    return _product({b: p for b, p in factors.items() if b not in common}, coefficient)


def completed(bodies: list[Expr]) -> list[Expr]:
    """The bodies with every c A k² - 2 c A k E[z] + c A E[z²] replaced by c A E[(k - z)²]."""
    for body in bodies:
        coefficient, factors = _factors(body)
        for base in factors:
            square = _as_square(base, factors, bodies, body, coefficient)
            if square is not None:
                return completed(square)
    return bodies


def _as_square(base: Expr, factors: Factors, bodies: list[Expr], body: Expr, coefficient: float) -> list[Expr] | None:
    if not isinstance(base, Moment) or len(base.atoms) != 1 or base.atoms[0][1:3] != ("power", 2.0):
        return None
    site, _, _, places = base.atoms[0]
    around = {b: p for b, p in factors.items() if b != base}
    linear = [b for b in bodies if _holds(b, site, places)]
    linear = [b for b in linear if around.items() <= _factors(b)[1].items()]
    if len(linear) != 1:
        return None
    c1, f1 = _factors(linear[0])
    mean = next(b for b in f1 if isinstance(b, Moment) and b.atoms == ((site, "power", 1.0, places),))
    other = {b: p for b, p in f1.items() if b != mean and around.get(b) != p}
    factor = -c1 / (2.0 * coefficient)
    if not other:
        wanted = _product(around, coefficient * factor**2)
        left: Expr = Number(factor)
    else:
        squared = _squared(other)
        if squared is None:
            return None
        wanted = product([_product(around), squared], coefficient * factor**2)
        left = _product(other, factor)
    last = next((b for b in bodies if _close(b, wanted)), None)
    if last is None:
        return None
    inner = sum_of(_without(t, around) for t in (wanted, linear[0], body))
    new = product([_product(around), Square(left, mean, product([inner], 1.0 / coefficient))], coefficient)
    return [b for b in bodies if b not in (body, linear[0], last)] + [new]


def _holds(body: Expr, site: str, places: Any) -> bool:
    return any(isinstance(b, Moment) and b.atoms == ((site, "power", 1.0, places),) for b in _factors(body)[1])


def _squared(factors: Factors) -> Expr | None:
    """The product squared, E[w] becoming E[w²]; `None` for moments whose square is not that of one latent."""
    result: list[Expr] = []
    for base, p in factors.items():
        if isinstance(base, Moment):
            if len(base.atoms) != 1 or base.atoms[0][1:3] != ("power", 1.0) or p != 1.0 or base.stat != "z":
                return None
            site, kind, _, places = base.atoms[0]
            result.append(Moment(base.block, "zz", base.indices, ((site, kind, 2.0, places),)))
        else:
            result.append(_product({base: 2.0 * p}))
    return product(result)


def _close(left: Expr, right: Expr) -> bool:
    a, f = _factors(left)
    b, g = _factors(right)
    return f == g and abs(a - b) <= 1e-12 * max(abs(a), abs(b))
