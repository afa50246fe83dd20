"""Values of an abstract run: known arrays, sums of monomials in the latents, exponentials of those, or opaque.

Every operation returns the normal form at once, so that no rewriting is ever needed: sqrt, division and reciprocal are
powers; log undoes exp and splits products.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jensen._conjugate.algebra.arrays import is_concrete, namespace
from jensen._conjugate.algebra.terms import Atom, Axis, Factor, Known, Stat, Term, merged, multiply, normalised

MAX_TERMS = 2000


class Opaque(Exception):
    """An expression that is not a polynomial in statistics of the latents; the message says which and why."""


class Value:
    """One array of the program.

    One of these is set: `known`, an array with size-1 axes where it is constant (broadcasting stays lazy); `terms`,
    monomials to be added; `exponent`, for exp(exponent); `why`, the reason why it is opaque. A choice between cases has
    both `terms` and `exponent`, which agree. An opaque value is an error only where a density needs it.
    """

    __slots__ = ("exponent", "known", "shape", "terms", "why")

    def __init__(
        self,
        shape: Sequence[int],
        known: Any = None,
        terms: list[Term] | None = None,
        exponent: "Value | None" = None,
        why: str | None = None,
    ):
        self.shape: tuple[int, ...] = tuple(int(n) for n in shape)
        self.known: Any = known
        self.terms: list[Term] | None = terms
        self.exponent: Value | None = exponent
        self.why: str | None = why

    @property
    def is_known(self) -> bool:
        """Whether no latent enters."""
        return self.known is not None

    def full(self) -> Any:
        """The known array at its whole shape."""
        return namespace(self.known).broadcast_to(self.known, self.shape)

    def polynomial(self) -> list[Term]:
        """The value as terms; raises `Opaque` where it has none."""
        if self.terms is not None:
            return self.terms
        if self.known is not None:
            return _known_terms(self.known)
        if self.exponent is not None:
            return _exponential(self.exponent)
        raise Opaque(self.why)

    def __add__(self, other: Any) -> "Value":
        return add(self, lift(other))

    __radd__ = __add__

    def __neg__(self) -> "Value":
        return times(self, lift(-1.0))

    def __sub__(self, other: Any) -> "Value":
        return add(self, -lift(other))

    def __rsub__(self, other: Any) -> "Value":
        return add(lift(other), -self)

    def __mul__(self, other: Any) -> "Value":
        return times(self, lift(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "Value":
        return times(self, power(lift(other), -1.0))

    def __rtruediv__(self, other: Any) -> "Value":
        return times(lift(other), power(self, -1.0))


def lift(x: Any) -> Value:
    """A number or array as a known value."""
    if isinstance(x, Value):
        return x
    array = x if hasattr(x, "aval") and not is_concrete(x) else np.asarray(x)
    return Value(array.shape, known=array)


def _known_terms(array: Any) -> list[Term]:
    out = [Axis(n) if n > 1 else None for n in array.shape]
    flat = array.reshape([n for n in array.shape if n > 1])
    if is_concrete(array) and array.dtype == bool:
        flat = flat.astype(float)
    if is_concrete(flat) and not flat.any():
        return []
    return [normalised(1.0, [Known(flat, tuple(a for a in out if a))], out, set())]


def _exponential(exponent: Value) -> list[Term]:
    """exp(Σ p log z + known) as the monomials Π z**p · exp(known)."""
    result = [Term(1.0, (), (None,) * len(exponent.shape))]
    for term in exponent.polynomial():
        parts = _exponential_of_term(term)
        if parts is None:
            raise Opaque(f"exp of the latent expression [{describe(exponent)}]")
        result = _bounded(merged([multiply(x, y) for x in result for y in parts]))
    return result


def _exponential_of_term(term: Term) -> list[Term] | None:
    """exp(p log z) = z**p; where p is a known array, Σ over its distinct values u of [p = u] z**u."""
    atoms = term.atoms
    if not atoms and not term.inner:
        return [_map_known(term, lambda a: namespace(a).exp(term.coefficient * a))]
    if len(atoms) != 1 or atoms[0].stat.kind != "log" or term.inner or len(term.factors) > 2:
        return None
    if len(term.factors) == 1:
        return [Term(1.0, (Atom(atoms[0].site, Stat("power", term.coefficient), atoms[0].maps),), term.out)]
    known = next(f for f in term.factors if isinstance(f, Known))
    levels = np.unique(known.array) if is_concrete(known.array) and known.array.size <= 100_000 else np.zeros(99)
    if len(levels) > 8:
        return None
    parts = []
    for level in levels:
        where = Known((known.array == level).astype(float), known.maps)
        atom = Atom(atoms[0].site, Stat("power", float(term.coefficient * level)), atoms[0].maps)
        parts.append(normalised(1.0, [where, atom], term.out, set()))
    return parts


def _map_known(term: Term, fn: Callable[[Any], Any]) -> Term:
    """`fn` of a term without latents; `fn` includes the coefficient."""
    if len(term.factors) == 0:
        return Term(float(fn(np.asarray(1.0))), (), term.out)
    if len(term.factors) > 1:
        raise Opaque("a product of known arrays of different axes")  # nested arrays have been multiplied already
    (known,) = (f for f in term.factors if isinstance(f, Known))
    return Term(1.0, (Known(fn(known.array), known.maps),), term.out)


def ranked(value: Value, shape: Sequence[int]) -> Value:
    """The value broadcast to a shape, lazily."""
    shape = tuple(shape)
    new = len(shape) - len(value.shape)
    if value.shape == shape:
        return value
    if value.is_known:
        return Value(shape, known=value.known.reshape((1,) * new + value.known.shape))
    if value.why is not None:
        return Value(shape, why=value.why)
    return on_representations(
        value, shape, lambda v: [Term(t.coefficient, t.factors, (None,) * new + t.out) for t in v.polynomial()]
    )


def on_representations(value: Value, shape: Sequence[int], fn: Callable[[Value], list[Term]]) -> Value:
    """Move the axes of a latent value: `fn` gives the terms of the result, for its terms and its exponent alike."""
    exponent = None if value.exponent is None else Value(shape, terms=fn(value.exponent))
    terms = fn(value) if value.exponent is None or value.terms is not None else None
    return Value(shape, terms=terms, exponent=exponent)


def combined(op: Callable[..., "Value"]) -> Callable[..., Value]:
    """Broadcast the operands of a binary operation; opaque operands and failures give an opaque value."""

    def run(left: Value, right: Value) -> Value:
        shape = np.broadcast_shapes(left.shape, right.shape)
        why = left.why or right.why
        if why is not None:
            return Value(shape, why=why)
        try:
            return op(ranked(left, shape), ranked(right, shape), shape)
        except Opaque as reason:
            return Value(shape, why=str(reason))

    run.__doc__ = op.__doc__
    return run


@combined
def add(left: Value, right: Value, shape: tuple[int, ...]) -> Value:
    """left + right."""
    if left.is_known and right.is_known:
        return Value(shape, known=left.known + right.known)
    return Value(shape, terms=_bounded(merged([*left.polynomial(), *right.polynomial()])))


@combined
def times(left: Value, right: Value, shape: tuple[int, ...]) -> Value:
    """left · right."""
    if left.is_known and right.is_known:
        return Value(shape, known=left.known * right.known)
    exponent = None
    if left.exponent is not None or right.exponent is not None:
        logs = [log_of_case(left), log_of_case(right)]
        if None not in logs:
            exponent = add(*logs)  # type: ignore[arg-type]
    if exponent is not None and left.terms is None and right.terms is None:
        return Value(shape, exponent=exponent)
    try:
        terms = merged([multiply(x, y) for x in left.polynomial() for y in right.polynomial()])
    except Opaque:
        if exponent is None:
            raise
        return Value(shape, exponent=exponent)
    return Value(shape, terms=_bounded(terms), exponent=exponent)


def _bounded(terms: list[Term]) -> list[Term]:
    if len(terms) > MAX_TERMS:
        raise Opaque(f"a polynomial of {len(terms)} terms, more than {MAX_TERMS}")
    return terms


def _single(value: Value) -> Term | None:
    """The only term of a value, when it is elementwise: no sum inside, and the coefficient is positive."""
    terms = value.polynomial()
    return terms[0] if len(terms) == 1 and not terms[0].inner else None


def power(value: Value, p: float) -> Value:
    """value**p for a constant p: exact for monomials; small whole powers of sums are multiplied out."""
    p = float(p)
    if value.why is not None or p == 1.0:
        return value
    if value.is_known:
        return Value(value.shape, known=_float(value.known) ** p)
    if value.exponent is not None:
        return Value(value.shape, exponent=times(value.exponent, lift(p)))
    term = _single(value)
    whole = p == int(p)
    powers = term is not None and all(a.stat.kind == "power" for a in term.atoms)
    if term is not None and powers and (term.coefficient > 0 or whole):
        factors: list[Factor] = [
            Known(_float(f.array) ** p, f.maps)
            if isinstance(f, Known)
            else Atom(f.site, Stat("power", f.stat.power * p), f.maps)
            for f in term.factors
        ]
        return Value(value.shape, terms=[normalised(term.coefficient**p, factors, term.out, set())])
    if whole and 2 <= p <= 4:
        result = value
        for _ in range(int(p) - 1):
            result = times(result, value)
        return result
    return Value(value.shape, why=f"the power {p:g} of the sum [{describe(value)}]")


def log(value: Value) -> Value:
    """The logarithm: a sum for a monomial, a statistic of its own for the complement 1 - z, v itself for exp(v)."""
    if value.why is not None:
        return value
    if value.is_known:
        return Value(value.shape, known=namespace(value.known).log(_float(value.known)))
    if value.exponent is not None:
        return value.exponent
    term = _single(value)
    if term is not None and term.coefficient > 0 and all(a.stat.kind == "power" for a in term.atoms):
        return Value(value.shape, terms=log_of_term(term))
    complement = _complement(value)
    if complement is not None:
        return Value(value.shape, terms=[complement])
    return Value(value.shape, why=f"the log of the sum [{describe(value)}]")


def log_of_case(value: Value) -> Value | None:
    """The log of a case of a choice, or `None` where it has none."""
    if value.is_known and not (is_concrete(value.known) and (value.known > 0).all()):
        return None
    logs = log(value)
    return None if logs.why is not None else logs


def log_of_term(term: Term) -> list[Term]:
    """The log of a monomial as terms, with the labels that it sums over left open."""
    parts = [] if term.coefficient == 1.0 else [Term(float(np.log(term.coefficient)), (), (None,) * len(term.out))]
    for factor in term.factors:
        if isinstance(factor, Known):
            parts.append(
                normalised(1.0, [Known(namespace(factor.array).log(factor.array), factor.maps)], term.out, set())
            )
        else:
            atom = Atom(factor.site, Stat("log"), factor.maps)
            parts.append(normalised(factor.stat.power, [atom], term.out, set()))
    return merged(parts)


def _complement(value: Value) -> Term | None:
    """log(1 - z) for the two terms 1 and -z."""
    terms = value.polynomial()
    ones = [t for t in terms if not t.factors and t.coefficient == 1.0]
    latents = [t for t in terms if len(t.atoms) == len(t.factors) == 1 and t.coefficient == -1.0 and not t.inner]
    if len(terms) != 2 or len(ones) != 1 or len(latents) != 1 or latents[0].atoms[0].stat != Stat("power", 1.0):
        return None
    atom = latents[0].atoms[0]
    return Term(1.0, (Atom(atom.site, Stat("log1m"), atom.maps),), latents[0].out)


def exp(value: Value) -> Value:
    """exp, kept symbolic until a product or a log needs it."""
    if value.why is not None:
        return value
    if value.is_known:
        return Value(value.shape, known=namespace(value.known).exp(_float(value.known)))
    return Value(value.shape, exponent=value)


def total(value: Value, axes: Sequence[int]) -> Value:
    """The sum over axes of the value."""
    axes = tuple(axis % len(value.shape) for axis in axes)
    shape = [n for i, n in enumerate(value.shape) if i not in axes]
    if value.why is not None:
        return Value(shape, why=value.why)
    if value.is_known:
        array = value.known if value.known.dtype != bool else value.known.astype(int)
        repeats = int(np.prod([value.shape[i] for i in axes if array.shape[i] == 1], dtype=int))
        return Value(shape, known=namespace(array).sum(array, axis=axes) * repeats)
    try:
        terms = value.polynomial()
    except Opaque as reason:
        return Value(shape, why=str(reason))
    return Value(shape, terms=merged([_summed(t, value.shape, axes) for t in terms]))


def _summed(term: Term, shape: tuple[int, ...], axes: tuple[int, ...]) -> Term:
    repeats = float(np.prod([shape[i] for i in axes if term.out[i] is None]))
    return Term(term.coefficient * repeats, term.factors, tuple(a for i, a in enumerate(term.out) if i not in axes))


def _float(array: Any) -> Any:
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    return array.astype(float) if is_concrete(array) else array.astype(jnp.result_type(float))


def known_function(value: Value, fn: Callable[[Any, Any], Any], what: str) -> Value:
    """`fn(namespace, array)` elementwise on a value that must not hold latents (`what` names it in the message)."""
    if value.why is not None:
        return value
    if not value.is_known:
        return Value(value.shape, why=f"{what} depends on the latent expression [{describe(value)}]")
    return Value(value.shape, known=fn(namespace(value.known), _float(value.known)))


def describe_term(term: Term) -> str:
    """A term in words: `-0.5*data*w^2*tau`."""
    names = {"log": "log({})", "log1m": "log(1-{})", "logdet": "logdet({})", "inverse": "inv({})", "indicator": "[{}]"}
    names["entropy"] = "H[{}]"
    parts = [f"{term.coefficient:g}"]
    for factor in term.factors:
        if isinstance(factor, Known):
            parts.append("data")
        elif factor.stat.kind == "power":
            parts.append(factor.site if factor.stat.power == 1 else f"{factor.site}^{factor.stat.power:g}")
        else:
            parts.append(names.get(factor.stat.kind, f"{factor.stat.kind}({{}})").format(factor.site))
    if parts[0] in ("1", "-1") and len(parts) > 1:
        parts[:2] = [parts[0][:-1] + parts[1]]
    return "*".join(parts)


def describe(value: Value) -> str:
    """A value in words, its first terms only."""
    try:
        terms = value.polynomial()
    except Opaque as reason:
        return str(reason)
    more = " + ..." if len(terms) > 5 else ""
    return (" + ".join(describe_term(t) for t in terms[:5]) + more) or "0"
