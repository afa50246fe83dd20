"""Multivariate normal and Wishart densities, in nats."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import multigammaln
from scipy.special import multigammaln as host_multigammaln

from jensen.models.conjugacy.arrays import namespace
from jensen.models.conjugacy.densities.registry import density
from jensen.models.conjugacy.densities.scalars import HALF_LOG_2PI
from jensen.models.conjugacy.movement import relabelled
from jensen.models.conjugacy.terms import Atom, Factor, Stat, Term, normalised
from jensen.models.conjugacy.value import Value, describe, known_function, log, ranked, times, total


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
    scale, atom, out = split
    sign = -1.0 if atom.stat.kind == "inverse" else 1.0
    latent = normalised(sign, [Atom(atom.site, Stat("logdet"), atom.maps[:-2])], out, set())
    return float(matrix.shape[-1]) * log(scale) + Value(shape, terms=[latent])


def inverse(matrix: Value) -> Value:
    """M⁻¹ of a known matrix, of a latent one, or of that times a scalar."""
    if matrix.is_known or matrix.why is not None:
        return matrix_function(matrix, "inverse", lambda xp, a: xp.linalg.inv(a), matrix.shape)
    split = _scaled_matrix(matrix)
    if split is None:
        return Value(matrix.shape, why=f"the inverse of the latent matrix [{describe(matrix)}]")
    scale, atom, out = split
    stat = Stat("power", 1.0) if atom.stat.kind == "inverse" else Stat("inverse")
    axes = matrix.polynomial()[0].out[-2:]
    latent = Value(matrix.shape, terms=[normalised(1.0, [Atom(atom.site, stat, atom.maps)], (*out, *axes), set())])
    one = relabelled(1.0 / scale, (*scale.shape, 1, 1), [*range(len(scale.shape)), None, None])
    return times(one, latent)


def _scaled_matrix(matrix: Value) -> tuple[Value, Atom, tuple[Any, ...]] | None:
    """(scalar, matrix atom, leading axes) of a latent matrix that is a scalar times one site."""
    terms = matrix.polynomial()
    if len(terms) != 1 or terms[0].inner:
        return None
    out = terms[0].out
    matrices = [
        a
        for a in terms[0].atoms
        if a.stat in (Stat("power", 1.0), Stat("inverse")) and len(a.maps) >= 2 and a.maps[-2:] == out[-2:]
    ]
    others: list[Factor] = [f for f in terms[0].factors if f not in matrices]
    if len(matrices) != 1 or None in out[-2:] or any(set(f.maps) & set(out[-2:]) for f in others):
        return None
    term: Term = normalised(terms[0].coefficient, others, out[:-2], set())
    return Value(matrix.shape[:-2], terms=[term]), matrices[0], out[:-2]


def _normal_parameters(d: Any) -> dict[str, Any]:
    """The matrix as the user gave it: the others are derived from it and would hide it."""
    given = next(k for k in ("precision_matrix", "covariance_matrix", "scale_tril") if k in d.__dict__)
    return {"loc": d.loc, given: getattr(d, given)}


def from_factor(scale_tril: Value) -> Value:
    """(L Lᵀ)⁻¹ of a known Cholesky factor."""
    shape = scale_tril.shape
    product = matrix_function(scale_tril, "Cholesky factor", lambda xp, a: a @ xp.swapaxes(a, -1, -2), shape)
    return inverse(product)


@density(dist.MultivariateNormal, parameters=_normal_parameters)
def multivariate_normal(
    x: Value,
    loc: Value,
    precision_matrix: Value | None = None,
    covariance_matrix: Value | None = None,
    scale_tril: Value | None = None,
) -> Value:
    """-½ (x - m)ᵀ Λ (x - m) + ½ log det Λ - ½ D log 2π."""
    if precision_matrix is not None:
        precision = precision_matrix
    elif covariance_matrix is not None:
        precision = inverse(covariance_matrix)
    else:
        assert scale_tril is not None
        precision = from_factor(scale_tril)
    return -0.5 * quadratic(x - loc, precision) + 0.5 * log_det(precision) - HALF_LOG_2PI * x.shape[-1]


def _wishart_parameters(d: Any) -> dict[str, Any]:
    base = d.base_dist
    given = next(k for k in ("rate_matrix", "scale_matrix", "scale_tril") if k in base.__dict__)
    return {"concentration": base.concentration, given: getattr(base, given)}


@density(dist.Wishart, parameters=_wishart_parameters)
def wishart(
    x: Value,
    concentration: Value,
    rate_matrix: Value | None = None,
    scale_matrix: Value | None = None,
    scale_tril: Value | None = None,
) -> Value:
    """½(ν - D - 1) log det X - ½ tr(R X) + ½ ν log det R - ½ ν D log 2 - log Γ_D(ν/2), R the inverse scale."""
    if rate_matrix is not None:
        rate = rate_matrix
    elif scale_matrix is not None:
        rate = inverse(scale_matrix)
    else:
        assert scale_tril is not None
        rate = from_factor(scale_tril)
    dim = x.shape[-1]

    def constant(xp: Any, nu: Any) -> Any:
        log_gamma = host_multigammaln_of(nu / 2.0, dim) if xp is np else multigammaln(jnp.asarray(nu) / 2.0, dim)
        return 0.5 * nu * dim * float(np.log(2.0)) + log_gamma

    normaliser = known_function(concentration, constant, "the concentration of a Wishart density")
    linear = total(times(rate, x), [-1, -2])
    return (
        0.5 * (concentration - (dim + 1.0)) * log_det(x)
        - 0.5 * linear
        + 0.5 * concentration * log_det(rate)
        - normaliser
    )


def host_multigammaln_of(a: Any, dim: int) -> Any:
    """log Γ_D elementwise, on concrete arrays."""
    return np.vectorize(lambda v: host_multigammaln(v, dim), otypes=[float])(a)
