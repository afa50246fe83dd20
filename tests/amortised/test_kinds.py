"""Rows beside latents that they share, discrete codes, and networks inside the model."""

import numpy as np
import pytest
from scipy import stats

import jensen as jn
from tests.amortised import models as m

N, D = m.GROUPS.shape


@pytest.fixture(scope="module")
def groups():
    return jn.fit(m.groups, {"x": m.GROUPS}, jn.amortised(hidden=(4,)))


def test_what_rows_share_keeps_its_own_factor(groups):
    """Exact: theta_n is normal around mu with variance 0.49, three observations each with variance 0.25."""
    spread = 0.49 + 0.25 / D
    precision = N / spread + 0.01
    found = groups.check()
    assert found.verdict == "trusted"
    assert float(groups.q.shared.loc[0]) == pytest.approx(
        m.GROUPS.mean() * N / spread / precision, abs=0.1 * precision**-0.5
    )
    table = groups.summary(["mu"])
    assert table.loc["mu", "mcse_mean"] == 0.0  # known without draws
    assert set(groups.sample(3)) == {"mu", "theta", "double"}
    np.testing.assert_allclose(groups.sample(2, raw=True)["double"], 2 * groups.sample(2, raw=True)["theta"])


def test_the_evidence_holds_the_exact_one(groups):
    cov = np.kron(np.eye(N), np.full((D, D), 0.49) + 0.25 * np.eye(D)) + 100.0
    exact = stats.multivariate_normal(np.zeros(N * D), cov).logpdf(m.GROUPS.ravel())
    found = groups.evidence()
    assert found.log_evidence == pytest.approx(exact, abs=0.05)
    assert found.interval[0] < exact < found.interval[1]
    assert groups.elbo.value < exact


@pytest.mark.slow
def test_codes_and_corrected_draws():
    x = np.random.default_rng(1).normal(size=30)
    fit = jn.fit(m.both, {"x": x}, jn.amortised(hidden=(6,), max_epochs=1500))
    rows = fit.infer()
    np.testing.assert_allclose(rows.probabilities()["c"].sum(axis=-1), 1.0)
    assert rows.probabilities()["c"].shape == (30, 3)
    assert set(fit.sample(4)) == {"slope", "c", "z"}
    assert fit.sample(4)["c"].dtype.kind == "i"
    assert fit.predict({"x": x[:5]}, num_draws=3)["x"].shape == (3, 5)


def test_a_network_in_the_model_is_learned():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(64, 1))
    x = np.concatenate([np.tanh(z), z**2], 1) + 0.3 * rng.normal(size=(64, 2))
    method = jn.amortised(hidden=(8,), bound=jn.ImportanceWeighted(4), max_epochs=600)
    fit = jn.fit(m.decoded, {"x": x}, method)
    assert "No rows were held out" in str(fit.check())
    net = fit.estimates.into("net", m.NET)
    assert not np.allclose(net.layers[0].weight, m.NET.layers[0].weight)
    assert "net$params: a network of 34 numbers in 4 arrays" in repr(fit.estimates)
    assert "'net$params'" in str(fit.check())
    with pytest.raises(jn.OptionError, match="Did you mean 'net'"):
        fit.estimates.into("nte", m.NET)


def test_rows_that_are_held_out_end_the_ascent_and_are_compared():
    """A network with as many weights as there are numbers in its rows fits them better than any others."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(24, 2))
    fit = jn.fit(m.decoded, {"x": x}, jn.amortised(hidden=(8,), max_epochs=2000, held_out=0.5))
    held = fit.answer.target.held["x"]
    assert fit.answer.target.size == len(held) == 12
    assert {tuple(row) for row in held} | {tuple(row) for row in fit.answer.target.rows["x"]} == {tuple(r) for r in x}
    assert "best for 12 held-out rows was kept" in fit.status
    own, other = fit.infer().log_evidence(), fit.infer({"x": held}).log_evidence()
    (said,) = [reason for reason in fit.check().reasons if "held-out" in reason]
    assert f"is {other.mean():.4g} nats a row, {own.mean() - other.mean():.2g} ±" in said
    with pytest.raises(jn.OptionError, match="held_out must be a share"):
        jn.amortised(held_out=1.5)
    with pytest.raises(jn.OptionError, match="leaves 1 of 2 rows"):
        jn.fit(m.one_normal, {"x": x[:2, 0]}, jn.amortised(held_out=0.5))


def test_a_weighted_bound_is_named():
    fit = jn.fit(
        m.one_normal, {"x": np.array([0.3, -0.8, 1.7, 0.2])}, jn.amortised(bound=jn.Weighted(4.0), hidden=(4,))
    )
    assert "counts the divergence 4 times: it is not the ELBO" in fit.status
    scale = fit.infer().scale  # the maximum is 1 / sqrt(1 + 1 / beta)
    np.testing.assert_allclose(scale, np.sqrt(1.0 / 1.25), rtol=0.1)
