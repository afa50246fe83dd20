"""Log densities of a few models written out with scipy.stats, by someone who has never heard of NumPyro."""

import jax
import numpy as np
import pytest
from scipy import special, stats

from jensen._math.precision import working
from jensen._model import build
from tests.zoo import MODELS


def eight_schools(z, d):
    return (
        stats.norm.logpdf(z["mu"], 0, 5)
        + stats.halfcauchy.logpdf(z["tau"], scale=5)
        + stats.norm.logpdf(z["theta"], z["mu"], z["tau"]).sum()
        + stats.norm.logpdf(d["y"], z["theta"], d["sigma"]).sum()
    )


def nested_plates(z, d):
    return (
        stats.norm.logpdf(z["mu"])
        + stats.norm.logpdf(z["a"], z["mu"], 1).sum()
        + stats.norm.logpdf(z["b"], z["a"], 0.5).sum()
        + stats.t.logpdf(d["y"], 4, z["b"], 0.3).sum()
    )


def masked_nan(z, d):
    return stats.norm.logpdf(z["mu"]) + stats.norm.logpdf(d["y"][~np.isnan(d["y"])], z["mu"], 2).sum()


def scaled_likelihood(z, d):
    return stats.gamma.logpdf(z["rate"], 2) + 2.5 * stats.expon.logpdf(d["y"], scale=1 / z["rate"]).sum()


def simplex(z, d):
    prior = stats.dirichlet.logpdf(z["p"], [1, 2, 3, 0.5])
    return prior + stats.multinomial.logpmf(d["counts"], 10, z["p"]).sum()


def covariance(z, d):
    prior = stats.wishart.logpdf(z["sigma"], 5, 0.5 * np.eye(3))
    return prior + stats.multivariate_normal.logpdf(d["y"], np.zeros(3), z["sigma"]).sum()


def scan_chain(z, d):
    mean = z["drift"] + 0.9 * np.concatenate([[0.0], z["level"][:-1]])
    return (
        stats.norm.logpdf(z["drift"])
        + stats.halfnorm.logpdf(z["noise"])
        + stats.norm.logpdf(z["level"], mean, z["noise"]).sum()
        + stats.norm.logpdf(d["y"], z["level"], 0.5).sum()
    )


def mixture(z, d):
    parts = np.log(z["weights"]) + stats.norm.logpdf(d["y"][:, None], z["means"], 1.0)
    return stats.norm.logpdf(z["means"], 0, 3).sum() + special.logsumexp(parts, axis=1).sum()


def bounds_from_data(z, d):
    return (
        stats.uniform.logpdf(z["a"], d["low"], 3.0).sum()
        + stats.truncnorm.logpdf(z["b"], d["low"], np.inf).sum()
        + stats.norm.logpdf(d["y"], z["a"] + z["b"]).sum()
    )


def factor_site(z, d):
    w = z["w"]
    return stats.norm.logpdf(w).sum() - 0.5 * (np.diff(w) ** 2).sum() - np.logaddexp(0, d["x"] * w[0]).sum()


def corr_cholesky(z, d):
    # LKJ(2) over 3×3 correlations, in the Cholesky chart: Π_k L_kk^(K-k+2η-2) over k = 2..K (Stan reference manual).
    diagonal = np.diag(z["root"])[1:]
    log_normaliser = sum(  # Lewandowski, Kurowicka and Joe (2009), equation 17
        0.5 * k * np.log(np.pi) + special.gammaln(2.0 + 0.5 * (2 - k)) - special.gammaln(2.0 + 0.5 * 2) for k in (1, 2)
    )
    prior = (np.array([3.0, 2.0]) * np.log(diagonal)).sum() - log_normaliser
    factor = z["scale"][:, None] * z["root"]
    return (
        prior
        + stats.halfnorm.logpdf(z["scale"]).sum()
        + stats.multivariate_normal.logpdf(d["y"], np.zeros(3), factor @ factor.T).sum()
    )


ORACLES = [
    eight_schools,
    nested_plates,
    masked_nan,
    scaled_likelihood,
    simplex,
    covariance,
    scan_chain,
    mixture,
    bounds_from_data,
    factor_site,
    corr_cholesky,
]


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda f: f.__name__)
def test_log_density_against_scipy(oracle):
    entry = MODELS[oracle.__name__]
    target = build(entry.model, entry.data, "double")
    points = np.random.default_rng(5).normal(size=(2, target.dim)) * 0.6
    latent = target.constrain(points)
    jacobian = _log_det(target, points)
    for row, value in enumerate(target.value(points)):
        expected = oracle({name: site[row] for name, site in latent.items()}, entry.data)
        assert value - jacobian[row] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def _log_det(target, points):
    """log |det ∂z/∂u|, checked by differentiation in the laws."""
    with working("double"):
        return np.asarray(jax.vmap(lambda u: target.model.bijection.forward(u)[1])(points))
