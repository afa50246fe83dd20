"""Multivariate normal and Wishart densities, in nats."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import multigammaln
from scipy.special import gammaln

from jensen._conjugate.algebra.arrays import namespace
from jensen._conjugate.algebra.densities.registry import density
from jensen._conjugate.algebra.densities.scalars import HALF_LOG_2PI
from jensen._conjugate.algebra.movement import relabelled
from jensen._conjugate.algebra.terms import Atom, Axis, Factor, Known, Stat, factor_axes, normalised
from jensen._conjugate.algebra.value import Value, describe, known_function, log, ranked, times, total


def quadratic(d: Value, matrix: Value) -> Value:
    """dᵀ M d over the last axes."""
    shape = (*np.broadcast_shapes(d.shape[:-1], matrix.shape[:-2]), d.shape[-1])
    d = ranked(d, shape)
    rank = len(shape) - 1
    column = relabelled(d, (*shape, 1), [*range(rank + 1), None])
    row = relabelled(d, (*shape[:-1], 1, shape[-1]), [*range(rank), None, rank])
    return total(times(times(column, row), matrix), [-1, -2])


def matrix_function(matrix: Value, name: str, fn: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> Value:
    """`fn(namespace, array)` of whole known matrices; opaque for latent ones."""
    if matrix.why is not None:
        return Value(shape, why=matrix.why)
    if not matrix.is_known:
        return Value(shape, why=f"the {name} of the latent matrix [{describe(matrix)}]")
    array = matrix.known
    whole = namespace(array).broadcast_to(array, (*array.shape[:-2], *matrix.shape[-2:]))
    return Value(shape, known=fn(namespace(whole), whole))


def log_det(matrix: Value) -> Value:
    """log det of a known matrix, of a latent one, of its inverse, or of those times a scalar (D log t more)."""
    shape = matrix.shape[:-2]
    if matrix.is_known or matrix.why is not None:
        return matrix_function(matrix, "log determinant", lambda xp, a: xp.linalg.slogdet(a)[1], shape)
    split = _scaled_matrix(matrix)
    if split is None:
        return Value(shape, why=f"the log determinant of the latent matrix [{describe(matrix)}]")
    scale, factor, out = split
    if isinstance(factor, Known):
        rest = log_det(_known_matrix(factor, matrix.shape, out))
    else:
        sign = -1.0 if factor.stat.kind == "inverse" else 1.0
        latent = normalised(sign, [Atom(factor.site, Stat("logdet"), factor.maps[:-2])], out[:-2], set())
        rest = Value(shape, terms=[latent])
    return float(matrix.shape[-1]) * log(scale) + rest


def inverse(matrix: Value) -> Value:
    """M⁻¹ of a known matrix, of a latent one, or of those times a scalar."""
    if matrix.is_known or matrix.why is not None:
        return matrix_function(matrix, "inverse", lambda xp, a: xp.linalg.inv(a), matrix.shape)
    split = _scaled_matrix(matrix)
    if split is None:
        return Value(matrix.shape, why=f"the inverse of the latent matrix [{describe(matrix)}]")
    scale, factor, out = split
    if isinstance(factor, Known):
        rest = inverse(_known_matrix(factor, matrix.shape, out))
    else:
        stat = Stat("power", 1.0) if factor.stat.kind == "inverse" else Stat("inverse")
        rest = Value(matrix.shape, terms=[normalised(1.0, [Atom(factor.site, stat, factor.maps)], out, set())])
    one = relabelled(1.0 / scale, (*scale.shape, 1, 1), [*range(len(scale.shape)), None, None])
    return times(one, rest)


def _scaled_matrix(matrix: Value) -> tuple[Value, Factor, tuple[Axis | None, ...]] | None:
    """(scalar, matrix factor, axes of the value) of a latent matrix that is a scalar times one site or known matrix."""
    terms = matrix.polynomial()
    if len(terms) != 1 or terms[0].inner or None in terms[0].out[-2:]:
        return None
    out = terms[0].out
    rows = set(out[-2:])
    whole = [f for f in terms[0].factors if rows & set(factor_axes(f))]
    others = [f for f in terms[0].factors if f not in whole]
    if len(whole) != 1 or not _is_matrix(whole[0], out[-2:]):
        return None
    term = normalised(terms[0].coefficient, others, out[:-2], set())
    return Value(matrix.shape[:-2], terms=[term]), whole[0], out


def _is_matrix(factor: Factor, rows: Sequence[Axis | None]) -> bool:
    if isinstance(factor, Known):
        return set(rows) <= set(factor.maps)
    return factor.stat in (Stat("power", 1.0), Stat("inverse")) and tuple(factor.maps[-2:]) == tuple(rows)


def _known_matrix(factor: Known, shape: tuple[int, ...], out: Sequence[Axis | None]) -> Value:
    """A known factor as a value over the axes `out`."""
    kept = [axis for axis in out if axis in factor.maps]
    array = namespace(factor.array).transpose(factor.array, [factor.maps.index(axis) for axis in kept])  # type: ignore[arg-type]
    return Value(shape, known=array.reshape([axis.size if axis in factor.maps else 1 for axis in out]))  # type: ignore[union-attr]


def _as_given(d: Any, *names: str) -> dict[str, Any]:
    """The matrix as the user gave it: the others are derived from it and would hide it."""
    given = next(name for name in names if name in d.__dict__)
    return {given: getattr(d, given)}


def _normal_parameters(d: Any) -> dict[str, Any]:
    return {"loc": d.loc, **_as_given(d, "precision_matrix", "covariance_matrix", "scale_tril")}


def from_given(matrix: Value | None, inverted: Value | None, scale_tril: Value | None) -> Value:
    """M, given as such, as its inverse or as a known Cholesky factor L of its inverse."""
    if matrix is not None:
        return matrix
    if inverted is not None:
        return inverse(inverted)
    assert scale_tril is not None
    shape = scale_tril.shape
    return inverse(matrix_function(scale_tril, "Cholesky factor", lambda xp, a: a @ xp.swapaxes(a, -1, -2), shape))


@density(dist.MultivariateNormal, parameters=_normal_parameters)
def multivariate_normal(
    x: Value,
    loc: Value,
    precision_matrix: Value | None = None,
    covariance_matrix: Value | None = None,
    scale_tril: Value | None = None,
) -> Value:
    """-½ (x - m)ᵀ Λ (x - m) + ½ log det Λ - ½ D log 2π."""
    precision = from_given(precision_matrix, covariance_matrix, scale_tril)
    return -0.5 * quadratic(x - loc, precision) + 0.5 * log_det(precision) - HALF_LOG_2PI * x.shape[-1]


def _wishart_parameters(d: Any) -> dict[str, Any]:
    base = d.base_dist
    return {"concentration": base.concentration, **_as_given(base, "rate_matrix", "scale_matrix", "scale_tril")}


@density(dist.Wishart, parameters=_wishart_parameters)
def wishart(
    x: Value,
    concentration: Value,
    rate_matrix: Value | None = None,
    scale_matrix: Value | None = None,
    scale_tril: Value | None = None,
) -> Value:
    """½(ν - D - 1) log det X - ½ tr(R X) + ½ ν log det R - ½ ν D log 2 - log Γ_D(ν/2), R the inverse scale."""
    rate = from_given(rate_matrix, scale_matrix, scale_tril)
    dim = x.shape[-1]
    linear = total(times(rate, x), [-1, -2])
    return (
        0.5 * (concentration - (dim + 1.0)) * log_det(x)
        - 0.5 * linear
        + 0.5 * concentration * log_det(rate)
        - wishart_normaliser(concentration, dim)
    )


def wishart_normaliser(concentration: Value, dim: int) -> Value:
    """½ ν D log 2 + log Γ_D(ν/2)."""

    def constant(xp: Any, nu: Any) -> Any:
        log_gamma = _host_multigammaln(nu / 2.0, dim) if xp is np else multigammaln(jnp.asarray(nu) / 2.0, dim)
        return 0.5 * nu * dim * float(np.log(2.0)) + log_gamma

    return known_function(concentration, constant, "the concentration of a Wishart density")


def _host_multigammaln(a: Any, dim: int) -> Any:
    return 0.25 * dim * (dim - 1) * np.log(np.pi) + sum(gammaln(a - 0.5 * i) for i in range(dim))


@density(dist.InverseWishart, parameters=_wishart_parameters)
def inverse_wishart(
    x: Value,
    concentration: Value,
    rate_matrix: Value | None = None,
    scale_matrix: Value | None = None,
    scale_tril: Value | None = None,
) -> Value:
    """½ ν log det S - ½(ν + D + 1) log det X - ½ tr(S X⁻¹) - ½ ν D log 2 - log Γ_D(ν/2), S the scale."""
    scale = scale_matrix if scale_matrix is not None else inverse(from_given(rate_matrix, None, scale_tril))
    dim = x.shape[-1]
    linear = total(times(scale, inverse(x)), [-1, -2])
    return (
        0.5 * concentration * log_det(scale)
        - 0.5 * (concentration + (dim + 1.0)) * log_det(x)
        - 0.5 * linear
        - wishart_normaliser(concentration, dim)
    )
