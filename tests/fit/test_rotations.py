"""Posteriors that rotations leave as they are: one rotation is fitted and judged, and the evidence is that of all."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn

ROWS, NOISE = 30, 0.7
X = np.random.default_rng(3).normal(size=(ROWS, 2)) @ np.array([[1.5, 0.4], [0.3, -0.9]]) + 0.7 * np.random.default_rng(
    4
).normal(size=(ROWS, 2))


def factors(x):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2, 2]).to_event(2))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
        numpyro.sample("x", dist.Normal(z @ w.T, NOISE).to_event(1), obs=x)


@pytest.fixture(scope="module")
def fitted():
    return jn.fit(factors, {"x": X})


@pytest.fixture(scope="module")
def grid():
    """(log p(x), E[w wᵀ]) by sums over a grid of w."""
    axis = np.linspace(-4.2, 4.2, 43)
    w = np.stack(np.meshgrid(axis, axis, axis, axis, indexing="ij"), -1).reshape(-1, 2, 2)
    products = w @ w.transpose(0, 2, 1)
    covariance = products + NOISE**2 * np.eye(2)
    log_det = np.linalg.slogdet(covariance)[1]
    scatter = np.trace(np.linalg.inv(covariance) @ (X.T @ X), axis1=1, axis2=2)
    logs = (
        -0.5 * (ROWS * (2 * np.log(2 * np.pi) + log_det) + scatter) - 0.5 * (w**2).sum((1, 2)) - 2 * np.log(2 * np.pi)
    )
    mass = np.exp(logs - logs.max())
    evidence = logs.max() + np.log(mass.sum()) + 4 * np.log(axis[1] - axis[0])
    return evidence, np.einsum("n,nij->ij", mass / mass.sum(), products)


def test_what_no_rotation_changes_is_right_and_said(fitted, grid):
    report = fitted.check()
    assert report.verdict in ("trusted", "usable")
    assert any("Rotating 'w'" in reason for reason in report.reasons)
    draws = fitted.sample(4000)
    w = draws["w"]
    assert draws["z"].shape == (4000, ROWS, 2)
    products = w @ w.transpose(0, 2, 1)
    np.testing.assert_allclose(products.mean(axis=0), grid[1], atol=5.0 * products.std(axis=0).max() / np.sqrt(4000))


def test_the_evidence_counts_every_rotation(fitted, grid):
    found = fitted.evidence()
    assert found.log_evidence == pytest.approx(grid[0], abs=0.02)
    assert found.interval[0] <= grid[0] <= found.interval[1] < grid[0] + 0.2
    assert fitted.elbo.value < grid[0]


def test_it_is_found_again_from_a_file(fitted, tmp_path):
    fitted.save(tmp_path / "fit.zip")
    again = jn.load(tmp_path / "fit.zip").attach(factors, {"x": X})
    points = fitted.pool.points[:5]
    np.testing.assert_allclose(again.target.value(points), fitted.target.value(points), rtol=1e-12)
    np.testing.assert_array_equal(again.sample(5, raw=True)["w"], fitted.sample(5, raw=True)["w"])


def loadings(x, size, spread):
    """Three loadings under one prior turn; with a precision for each they only change signs and places."""
    alpha = numpyro.sample("alpha", dist.Gamma(2, 2).expand([size]).to_event(1)) if spread else np.ones(size)
    w = numpyro.sample("w", dist.Normal(np.zeros((x.shape[1], size)), alpha**-0.5).to_event(2))
    tau = numpyro.sample("tau", dist.Gamma(1, 1))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([size]).to_event(1))
        numpyro.sample("x", dist.Normal(z @ w.T, tau**-0.5).to_event(1), obs=x)


def wide(rows=120):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 3)) @ rng.normal(size=(3, 6)) + 0.5 * rng.normal(size=(rows, 6))


@pytest.mark.slow
def test_three_factors_begin_where_the_ascent_ended():
    """Hardly any random place is in the position nearest to the reference."""
    fit = jn.fit(loadings, {"x": wide(), "size": 3, "spread": False})
    assert fit.check().verdict in ("trusted", "usable")
    assert fit.target.dim == 6 * 3 - 3 + 1
    assert fit.target.coordinate_names() == ["tau"] + ["w"] * 15


@pytest.mark.slow
def test_a_symmetry_that_is_not_known_leaves_the_factors():
    """Signs and orders of loadings are many modes; a mixture over them takes a minute."""
    fit = jn.fit(loadings, {"x": wide(160), "size": 2, "spread": True})
    kept = {row["family"]: row["kept"] for row in fit.outcome.stages}
    assert kept == {"conjugate factors": True, "Gaussian, others integrated out": False}
