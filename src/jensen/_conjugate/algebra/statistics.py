"""The functions of a latent that log densities may hold, and how each is computed and written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jensen._conjugate.algebra.arrays import namespace
from jensen._conjugate.algebra.terms import Atom, Stat, Term
from jensen._conjugate.algebra.value import Value, describe, known_function


@dataclass(frozen=True)
class Statistic:
    """A function of one latent site.

    Attributes:
        kind: its name, which `Stat.kind` holds.
        at: (namespace, values, power) -> the statistic there.
        drops: how many of the last axes of the site it takes away.
        text, latex: how it is written, with {} for the site.
    """

    kind: str
    at: Callable[[Any, Any, float], Any]
    drops: int = 0
    text: str = ""
    latex: str = ""


STATISTICS: dict[str, Statistic] = {}


def statistic(
    kind: str, at: Callable[[Any, Any], Any], *, text: str = "", latex: str = "", primitive: str = ""
) -> Callable[[Value], Value]:
    """Make `kind` a statistic of latents, elementwise: the function of values that puts it into a log density.

    Args:
        kind: its name.
        at: (NumPy or its namesake in JAX, array) -> array.
        text: how equations write it, with {} for the latent.
        latex: the same in LaTeX.
        primitive: the primitive of JAX that computes it, where models may call it themselves.
    """
    from jensen._conjugate.algebra.primitives import RULES

    text, latex = text or f"{kind} {{}}", latex or rf"\operatorname{{{{{kind}}}}} {{}}"
    register(Statistic(kind, lambda xp, z, power: at(xp, z), 0, text, latex))

    def apply(value: Value) -> Value:
        if value.why is not None or value.is_known:
            return known_function(value, at, kind)
        (term, *more) = value.polynomial()
        if more or term.inner or term.coefficient != 1.0 or [f.stat for f in term.atoms] != [Stat("power", 1.0)]:
            return Value(value.shape, why=f"{kind} of the latent expression [{describe(value)}]")
        if len(term.factors) > 1:
            return Value(value.shape, why=f"{kind} of the latent expression [{describe(value)}]")
        atom = Atom(term.atoms[0].site, Stat(kind), term.atoms[0].maps)
        return Value(value.shape, terms=[Term(1.0, (atom,), term.out)])

    if primitive:
        RULES[primitive] = lambda values, params, shape: apply(values[0])
    return apply


def register(found: Statistic) -> None:
    """Enter a statistic into the table."""
    STATISTICS[found.kind] = found


def evaluated(stat: Stat, value: Any) -> Any:
    """The statistic at values of its site."""
    return STATISTICS[stat.kind].at(namespace(value), value, stat.power)


register(Statistic("power", lambda xp, z, power: z**power))
register(Statistic("log", lambda xp, z, power: xp.log(z), 0, "log {}", r"\log {}"))
register(Statistic("log1m", lambda xp, z, power: xp.log1p(-z), 0, "log(1 - {})", r"\log\left(1 - {}\right)"))
register(Statistic("logdet", lambda xp, z, power: xp.linalg.slogdet(z)[1], 2, "log|{}|", r"\log\left|{}\right|"))
register(Statistic("inverse", lambda xp, z, power: xp.linalg.inv(z)))
