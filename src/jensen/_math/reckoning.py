"""What running a program takes, reckoned from its equations: the same on every machine, so that a seed gives its bits.

Every equation costs something to begin, which is most of the cost of a loop over few numbers, and something for each
number that it computes or multiplies. The constants are those of one core of an ordinary processor, good to a factor of
two or three: enough to tell a second from ten. (`operations` counts the second part alone.)
"""

import math
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Jaxpr

BEGIN, NUMBER, SERIES, MULTIPLIED, CALL, ROW = 5e-8, 1.5e-10, 1.5e-9, 3e-11, 1e-4, 4e-8
"""Seconds to begin an equation, for a number, for one that is a series, for a multiplication in a product of matrices,
for a call from the host, and for a row of a matrix that is factorised or solved for one column: of small ones, which
are given to the library one by one, this is nearly all."""
TURNS = 4
"""Turns of a loop whose end is not known, a search for a mode say."""
DEAR = frozenset(
    ("exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "lgamma", "digamma", "erf", "erfc", "erf_inv", "pow",
     "sin", "cos", "tan", "atan2", "igamma", "igammac", "regularized_incomplete_beta", "polygamma", "random_bits",
     "threefry2x32", "sort", "gather", "scatter", "scatter-add")
)  # fmt: skip
CUBES = {"cholesky": 1, "triangular_solve": 1, "lu": 2, "qr": 4, "householder_product": 4, "eigh": 20, "svd": 40}
"""Multiplications for every number of the result, in widths of the matrix."""


class Price(NamedTuple):
    """Seconds of a call however few points it is for, and of every point."""

    begun: float
    each: float

    def seconds(self, points: float, calls: float = 1.0) -> float:
        """Of so many points in so many calls."""
        return calls * self.begun + points * self.each


def price(jaxpr: Jaxpr, points: int) -> Price:
    """Of a program that is called from the host for so many points at once."""
    begun, computed = _program(jaxpr)
    return Price(CALL + begun, computed / points)


def _program(program: Jaxpr | ClosedJaxpr) -> tuple[float, float]:
    """Seconds that go into beginning equations, and into numbers."""
    eqns = (program.jaxpr if isinstance(program, ClosedJaxpr) else program).eqns
    found = [_equation(eqn) for eqn in eqns]
    return sum(one[0] for one in found), sum(one[1] for one in found)


def _equation(eqn: Any) -> tuple[float, float]:
    name, params = eqn.primitive.name, eqn.params
    values = [v for value in params.values() for v in (value if isinstance(value, (tuple, list)) else (value,))]
    inner = [_program(value) for value in values if isinstance(value, (Jaxpr, ClosedJaxpr))]
    if inner:
        times = params["length"] if name == "scan" else TURNS if name == "while" else 1
        longest = [max(inner)] if name == "cond" else inner
        return times * sum(one[0] for one in longest), times * sum(one[1] for one in longest)
    size = sum(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return BEGIN, MULTIPLIED * size * math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
    if name in CUBES:
        width = eqn.invars[0].aval.shape[-1]
        rows = size if name == "triangular_solve" else size / max(width, 1)
        return BEGIN, MULTIPLIED * CUBES[name] * size * width + ROW * rows
    return BEGIN, size * (SERIES if name in DEAR else NUMBER)
