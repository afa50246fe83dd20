"""The usual parameters of every factor, each a statistic's natural parameter up to scale and shift."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jensen._families.exponential import (
    Beta,
    Categorical,
    CategoricalCopies,
    Dirichlet,
    DiscreteChain,
    DiscreteJoint,
    GammaPower,
    GaussianChain,
    JointNormal,
    MultivariateNormal,
    Normal,
    NormalGamma,
    Wishart,
)


@dataclass(frozen=True)
class Parameter:
    """`name = scale · η[stat] + shift`, made symmetric in pairs of axes, divided by the parameter `front`.

    Attributes:
        name: its symbol; `front` names an earlier parameter (a precision) by whose inverse it is multiplied.
        word: in words. read: the value that the factor itself gives.
        spare: its name where a site has its letter, if another than for the families that share the letter.
    """

    name: str
    stat: str
    word: str
    read: Callable[[Any], Any]
    scale: float = 1.0
    shift: float = 0.0
    front: str = ""
    symmetric: tuple[tuple[int, int], ...] = ()
    spare: str = ""


Listed = tuple[str, Sequence[Parameter]]
PARAMETERS: dict[type, Callable[[Any], Listed]] = {}


def _lists(cls: type) -> Callable[[Callable[[Any], Listed]], Callable[[Any], Listed]]:
    def register(fn: Callable[[Any], Listed]) -> Callable[[Any], Listed]:
        PARAMETERS[cls] = fn
        return fn

    return register


def parameters_of(factor: Any) -> Listed:
    """(the family's name with its parameters, the parameters) of a factor; natural ones for a family not listed."""
    return PARAMETERS.get(type(factor), _natural)(factor)


def _natural(factor: Any) -> Listed:
    found = [Parameter(f"η[{k}]", k, f"coefficient of {k}", lambda f, k=k: f.natural[k]) for k in factor.natural]
    return f"{type(factor).__name__}(η)", tuple(found)


@_lists(Normal)
def _normal(factor: Normal) -> Listed:
    return "Normal(m, s²)", (
        Parameter("1/s²", "zz", "precision", lambda f: 1.0 / f.variance, scale=-2.0),
        Parameter("m", "z", "mean", lambda f: f.loc, front="1/s²"),
    )


@_lists(MultivariateNormal)
def _multivariate(factor: MultivariateNormal) -> Listed:
    rank, count = factor.natural["zz"].ndim, len(factor.event_axes)
    pairs = tuple((rank - 2 * count + i, rank - count + i) for i in range(count))
    shape = factor.natural["zz"].shape
    return "Normal(m = S h, S)", (
        Parameter("S⁻¹", "zz", "precision", lambda f: f.precision.reshape(shape), scale=-1.0, symmetric=pairs),
        Parameter("h", "z", "precision × mean", lambda f: f.natural["z"]),
    )


@_lists(JointNormal)
def _joint_normal(factor: JointNormal) -> Listed:
    found = []
    for i, a in enumerate(factor.shapes):
        found.append(Parameter(f"h{i + 1}", f"z{i}", "precision × mean", lambda f, i=i: f.natural[f"z{i}"]))
        for j in range(i, len(factor.shapes)):
            pairs = tuple((k, len(a) + k) for k in range(len(a))) if i == j else ()
            scale = -1.0 if pairs or i != j else -2.0

            def read(f: Any, stat: str = f"z{i}z{j}", pairs: Any = pairs, scale: float = scale) -> Any:
                half = f.natural[stat]
                order = [*(q for _, q in pairs), *(p for p, _ in pairs)]
                return -(half + half.transpose(order)) if pairs else scale * half

            name = f"Λ{i + 1}{j + 1}"
            found.append(Parameter(name, f"z{i}z{j}", "precision", read, scale=scale, symmetric=pairs))
    return "Normal(Λ⁻¹ h, Λ⁻¹)", tuple(found)


@_lists(GammaPower)
def _gamma(factor: GammaPower) -> Listed:
    p, word = factor.power, "rate" if factor.power != -1.0 else "scale"
    name = {1.0: "Gamma(a, b)", -1.0: "InverseGamma(a, b)"}.get(p, f"Gamma(a, b) for the power {p:g}")
    return name, (
        Parameter("a", "log", "shape", lambda f: f.concentration, scale=1.0 / p, shift=1.0 / p),
        Parameter("b", "power", word, lambda f: f.rate, scale=-1.0, spare=word),
    )


@_lists(NormalGamma)
def _normal_gamma(factor: NormalGamma) -> Listed:
    del factor
    return "Normal(m, 1/(κ τ)) Gamma(τ; a, b)", (
        Parameter("κ", "tzz", "rows", lambda f: -2.0 * f.natural["tzz"], scale=-2.0),
        Parameter("m", "tz", "mean", lambda f: f._parameters()[1], front="κ"),
        Parameter("a", "log", "shape", lambda f: f._parameters()[2], shift=0.5),
        Parameter("b + κm²/2", "t", "rate and spread", lambda f: -f.natural["t"], scale=-1.0),
    )


@_lists(Beta)
def _beta(factor: Beta) -> Listed:
    del factor
    return "Beta(a, b)", (
        Parameter("a", "log", "first concentration", lambda f: f.concentrations[0], shift=1.0, spare="conc1"),
        Parameter("b", "log1m", "second concentration", lambda f: f.concentrations[1], shift=1.0, spare="conc0"),
    )


@_lists(Dirichlet)
def _dirichlet(factor: Dirichlet) -> Listed:
    del factor
    return "Dirichlet(α)", (Parameter("α", "log", "concentration", lambda f: f.concentration, shift=1.0),)


@_lists(Wishart)
def _wishart(factor: Wishart) -> Listed:
    rank, dim = factor.natural["matrix"].ndim, factor.dim
    sign = -1.0 if factor.inverted else 1.0
    name = "InverseWishart(ν, R)" if factor.inverted else "Wishart(ν, R⁻¹)"
    return name, (
        Parameter("ν", "logdet", "degrees of freedom", lambda f: f.concentration, 2.0 * sign, sign * (dim + 1.0)),
        Parameter("R", "matrix", "scale" if factor.inverted else "rate", lambda f: f.rate, -1.0,
                  symmetric=((rank - 2, rank - 1),)),
    )  # fmt: skip


@_lists(Categorical)
def _categorical(factor: Categorical) -> Listed:
    del factor
    return "Categorical(φ)", (Parameter("log φ", "indicator", "log weights", lambda f: f.natural["indicator"]),)


@_lists(CategoricalCopies)
def _copies(factor: CategoricalCopies) -> Listed:
    del factor
    return "w copies of Categorical(φ)", (
        Parameter("w", "copies", "copies", lambda f: f.natural["copies"]),
        Parameter("w log φ", "indicator", "log weights", lambda f: f.natural["indicator"]),
    )


@_lists(GaussianChain)
def _gaussian_chain(factor: GaussianChain) -> Listed:
    rank, count = factor.natural["zz"].ndim, len(factor.axes) - 1
    pairs = tuple((rank - 2 * count + i, rank - count + i) for i in range(count))
    order = [*range(rank - 2 * count), *range(rank - count, rank), *range(rank - 2 * count, rank - count)]
    return "Normal(m = S h, S), S⁻¹ block tridiagonal", (
        Parameter("S⁻¹", "zz", "precision", lambda f: -(f.natural["zz"] + f.natural["zz"].transpose(order)),
                  scale=-1.0 if count else -2.0, symmetric=pairs),
        Parameter("C", "cross", "precision of neighbours", lambda f: -f.natural["cross"], scale=-1.0),
        Parameter("h", "z", "precision × mean", lambda f: f.natural["z"]),
    )  # fmt: skip


@_lists(DiscreteChain)
def _discrete_chain(factor: DiscreteChain) -> Listed:
    del factor
    return "Π ψ, chained", (
        Parameter("log ψ", "indicator", "log potential", lambda f: f.natural["indicator"]),
        Parameter("log ψ[t, t + 1]", "pair", "log potential of neighbours", lambda f: f.natural["pair"]),
    )


@_lists(DiscreteJoint)
def _discrete_joint(factor: DiscreteJoint) -> Listed:
    found = [
        Parameter(f"log ψ[{name}]", name, "log potential", lambda f, n=name: f.natural[n]) for name, _ in factor.cliques
    ]
    return "Π ψ, normalised", tuple(found)
