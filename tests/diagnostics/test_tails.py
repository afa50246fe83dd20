"""Tails beyond the draws: their index, their 99 % points and what they add to moments, against exact values."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import jensen as jn
from jensen._math.reckoning import Price
from jensen._verdict.checks import Tails
from jensen._verdict.checks.moments import far_out
from jensen._verdict.directed import Mixed
from jensen._verdict.profile import Frame, across, climbed, log_marginals
from jensen._verdict.tails import SECONDS, quantiles
from jensen._verdict.tails import measured as measured_tails
from jensen._verdict.verdict import Material

WANTED = np.array([-3.0, 1.0, 4.0])


def student(df, others):
    """One Student t among normal latents."""

    def model():
        with numpyro.plate("other", others):
            numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.StudentT(df, 0.0, 1.0))

    return model


def joint(df, dim):
    """A Student t density in several dimensions."""
    return jn.LogDensity(lambda z: -0.5 * (df + dim) * jnp.log1p(jnp.sum(z["x"] ** 2) / df), {"x": (dim,)})


def groups(y):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(2.0))
    with numpyro.plate("g", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def measured(fit):
    answer, pool = fit.answer, fit.pool
    return {(t.scalar, t.level): t for t in measured_tails(answer.target, pool.points, pool.weights, 0).tails}


def fitted(model, data=None):
    return jn.fit(model, data, "laplace", progress=False)


@pytest.mark.parametrize(("df", "others"), [(1.5, 5), (3.0, 5), (3.0, 120)])
def test_one_heavy_coordinate_among_many(df, others):
    found = measured(fitted(student(df, others), {}))
    assert set(found) == {("x", "99 %"), ("x", "1 %")}
    for tail in found.values():
        assert tail.index == pytest.approx(df, rel=0.06)
        assert tail.quantile == pytest.approx(stats.t(df).ppf(0.99), rel=0.3)  # from the draws' 90 % point on
        assert (tail.spread == np.inf) == (df < 2)


def test_every_direction_of_a_joint_tail():
    found = measured(fitted(joint(3.0, 6)))
    assert len(found) == 12
    for tail in found.values():
        assert tail.index == pytest.approx(3.0, rel=0.06)
        assert tail.quantile == pytest.approx(stats.t(3.0).ppf(0.99), rel=0.2)
        assert tail.of_q < 0.6 * tail.quantile


def test_the_scale_of_three_groups_by_quadrature():
    tau = np.exp(np.linspace(-8, 12, 4001))
    mu = np.linspace(-40, 40, 1601)[:, None, None]
    logs = stats.norm(mu, np.sqrt(tau[:, None] ** 2 + 1)).logpdf(WANTED).sum(-1) + stats.norm(0, 5).logpdf(mu[..., 0])
    marginal = np.exp(logs + stats.halfcauchy(scale=2).logpdf(tau) + np.log(tau)).sum(0)
    below = np.cumsum(marginal) / marginal.sum()
    exact = np.interp(0.99, below, tau) - np.interp(0.5, below, tau)
    tail = measured(jn.fit(groups, {"y": WANTED}, progress=False))["tau", "99 %"]
    assert tail.quantile == pytest.approx(exact, rel=0.1)
    assert tail.index == pytest.approx(4.0, rel=0.05)


def test_another_labelling_is_no_tail():
    def mixture(x):
        mu = numpyro.sample("mu", dist.Normal(0.0, 3.0).expand([2]).to_event(1))
        with numpyro.plate("row", len(x)):
            numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Normal(mu, 1.0)), obs=x)

    fit = fitted(mixture, {"x": np.random.default_rng(2).normal([-1.5, 1.8], 1.0, (12, 2)).ravel()})
    assert [f for f in Tails().measure(_material(fit)) if not f.passed or f.note] == []


@pytest.mark.parametrize("model", ["normal", "gamma", "beta", "lognormal"])
def test_tails_that_draws_know_are_no_finding(model):
    def program():
        numpyro.sample("z", dist.Normal(1.0, 1.0))
        given = {
            "normal": dist.Normal(0, 3), "gamma": dist.Gamma(4.0, 1.0), "beta": dist.Beta(3.0, 5.0),
            "lognormal": dist.LogNormal(0.0, 0.3),
        }  # fmt: skip
        numpyro.sample("x", given[model])

    fit = fitted(program, {})
    material = [f for f in Tails().measure(_material(fit)) if not f.passed or f.note]
    assert material == []


def _material(fit):
    from jensen._verdict.verdict import Material

    return Material(fit.answer, fit.pool, fit.answer.draws_of(fit.pool), 0)


def test_slices_have_the_marginal_density_of_a_gaussian():
    rng = np.random.default_rng(0)
    root = np.tril(rng.normal(size=(4, 4))) + 2 * np.eye(4)
    precision = np.linalg.inv(root @ root.T)
    target = fitted(jn.LogDensity(lambda z: -0.5 * z["x"] @ jnp.asarray(precision) @ z["x"], {"x": (4,)})).answer.target
    frame = Frame(np.zeros(4), root)
    heights = np.array([0.0, 1.0, 3.0, 8.0])
    where = np.full(4, 2)
    slices = climbed(target, frame, where, heights, rng.normal(size=(4, 4)))
    logs, _ = log_marginals(target, frame, slices, 0)
    np.testing.assert_allclose(logs - logs[0], -0.5 * heights**2, atol=0.01)
    sd = np.linalg.norm(root[2])
    np.testing.assert_allclose(frame.points(slices.white)[:, 2], heights * sd, atol=1e-9)
    basis = across(frame.normal(2)[0])
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(basis.T @ frame.normal(2)[0], 0.0, atol=1e-12)


@pytest.mark.parametrize("method", ["auto", "bbvi"])
def test_a_heavy_tail_is_never_trusted_with_quantiles_that_are_too_short(method):
    fit = jn.fit(student(1.5, 1), {}, method, progress=False)
    report = fit.check()
    exact = stats.t(1.5).ppf([0.01, 0.99])
    near = np.abs(np.log(np.quantile(fit.sample(20_000)["x"], [0.01, 0.99]) / exact)).max() < np.log(1.3)
    assert report.verdict == "untrusted" or near
    assert any("The variance of x is not finite" in reason for reason in report.reasons)


def test_directed_draws_follow_their_density_and_reach_the_tail():
    fit = fitted(joint(3.0, 3))
    proposal = Mixed(tuple(measured_tails(fit.answer.target, fit.pool.points, fit.pool.weights, 0).proposals))
    assert len(proposal.parts) == 6
    points = proposal.draw(40_000, 1)
    logs = proposal.log_prob(points)
    assert np.isfinite(logs).all()
    # the volume of a box by draws of the proposal, weighted by 1 / density
    first = proposal.parts[0]
    inside = (np.abs(points - 6.0 * first.sign * np.eye(3)[first.coordinate]) < 1.0).all(1)
    volume = np.where(inside, np.exp(-logs), 0.0)
    assert volume.mean() == pytest.approx(8.0, abs=4.0 * volume.std() / np.sqrt(len(volume)))
    ratio = -0.5 * 6.0 * np.log1p((points**2).sum(1) / 3.0) - logs
    far = np.abs(points).max(1) > 4.0
    assert far.mean() > 0.2
    assert 1.0 / np.sum((np.exp(ratio) / np.exp(ratio).sum()) ** 2) > 0.2 * len(points)


def one_group():
    tau, z = numpyro.sample("tau", dist.HalfCauchy(1.0)), numpyro.sample("z", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(tau * z, 1.0), obs=1.5)


def test_a_tail_that_draws_fall_short_of_gets_draws_of_its_own():
    """Corrected quantiles of a Student t that are 10 and 38 % too short without."""
    fit = fitted(student(3.0, 1), {})
    pool, x = fit.pool, np.abs(fit.answer.draws_of(fit.pool)["x"].reshape(-1, 1))
    for level, within in ((0.98, 0.06), (0.998, 0.15)):
        exact = stats.t(3.0).ppf(0.5 + level / 2)
        assert quantiles(x, pool.weights, level)[0] == pytest.approx(exact, rel=within)
    assert pool.weights[pool.half :] @ (x[pool.half :, 0] > 5.0) > 0.01
    assert pool.log_evidence[0] == pytest.approx(0.0, abs=5 * pool.log_evidence[1] + 0.005)
    assert pool.log_ratios.mean() == pytest.approx(fit.elbo.value, abs=0.05)  # its first half is from q as ever


def test_an_sd_that_is_not_finite_is_named_and_not_compared():
    """P(tau > s | y) falls like 1 / s²; its quantiles by quadrature over log tau."""
    fit = jn.fit(one_group, {}, progress=False)
    report = fit.check()
    assert report.verdict != "untrusted"
    assert any("variance of tau is not finite" in reason for reason in report.reasons)
    u = np.linspace(-15.0, 30.0, 40_001)
    logs = stats.halfcauchy.logpdf(np.exp(u)) + u + stats.norm.logpdf(1.5, 0.0, np.sqrt(1.0 + np.exp(2.0 * u)))
    mass = np.cumsum(np.exp(logs - logs.max()))
    median, far = np.exp(np.interp([0.5, 0.99], mass / mass[-1], u))
    drawn = np.quantile(fit.sample(20_000)["tau"], [0.5, 0.99])
    assert (drawn[1] - drawn[0]) == pytest.approx(far - median, rel=0.3)


@pytest.mark.parametrize(("stretch", "passed"), [(1.0, True), (1.6, False), (0.6, False)])
def test_what_has_no_variance_is_compared_by_its_far_quantiles(stretch, passed):
    """Half of the draws are q's: a Student t with 1.5 degrees of freedom, stretched; weights are on the others."""
    x = np.random.default_rng(0).standard_t(1.5, size=20_000)
    draws = {"x": np.concatenate([stretch * x[:10_000], x[10_000:]]), "y": np.zeros(20_000)}
    pool = SimpleNamespace(half=10_000, weights=np.repeat([0.0, 1e-4], 10_000))
    found = far_out(SimpleNamespace(draws=draws, pool=pool), {"x"})
    assert (found.passed, found.blocks) == (passed, "trusted")
    assert found.value == pytest.approx(stretch, rel=0.15)
    assert passed or "point of x under q is" in found.reason


def test_an_exact_factor_without_a_variance_says_so():
    """Inverse gamma of shape 1.5 after two rows: its variance is infinite."""

    def model(y):
        s2 = numpyro.sample("s2", dist.InverseGamma(0.5, 0.5))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Normal(0.0, jnp.sqrt(s2)), obs=y)

    report = jn.fit(model, {"y": np.array([1.0, -0.5])}, "cavi", progress=False).check()
    assert report.verdict == "trusted"
    assert any("variance of s2 under q is not finite" in reason for reason in report.reasons)


def test_dear_tails_take_no_longer_than_they_may_and_what_is_left_out_is_said(monkeypatch):
    """Twelve coordinates, one of them a Student t, at prices at which no tail can be measured, or none looked at."""
    fit = fitted(student(3.0, 11), {})
    target, pool = fit.answer.target, fit.pool
    for each, said in ((0.0006, "tails that fall slowly, not measured"), (1.0, "sides of coordinates not looked at")):
        calls: list[int] = []
        with monkeypatch.context() as patch:
            patch.setitem(vars(target), "gradients", 0)
            patch.setitem(vars(target), "values", 0)
            patch.setitem(vars(target), "price", Price(0.0, each))
            patch.setattr(type(target), "value_and_grad", counted(type(target).value_and_grad, calls))
            patch.setattr(type(target), "value", counted(type(target).value, calls))
            found = measured_tails(target, pool.points, pool.weights, 0)
            patch.setattr(fit.answer, "_tails", (pool, found))
            titles = [finding.title for finding in Tails().measure(Material(fit.answer, pool, {}, 0))]
        assert any(said in title for title in titles)
        assert not found.tails
        assert sum(calls) * each < 2.0 * SECONDS


def counted(method, calls):
    """The method, with the rows of each call noted."""

    def run(self, points):
        calls.append(len(points))
        return method(self, points)

    return run
