"""Beyond the Gaussian in the model's own coordinates: when auto goes there, what it keeps, and what it says."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import jensen as jn
from jensen._core import Outcome
from jensen._families import Flow, FullRank, MeanField
from jensen._gaussian import escalation, noncentring
from jensen._gaussian.adaptive import _draw, adapted
from jensen._gaussian.answer import untried
from jensen._gaussian.family_comparison import Measured
from jensen._math.precision import working
from jensen._model import build
from jensen._nested.noncentred import noncentred

DATA = {"sigma": np.array([15, 10, 16, 11, 9, 11, 10, 18.0]), "y": np.array([28, 8, -3, 7, -1, 1, 18, 12.0])}


def centred(sigma, y):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", 8):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.deterministic("far", theta - mu)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


@pytest.fixture(scope="module")
def schools():
    return jn.fit(centred, DATA, jn.auto(integrate=False))


def test_centred_schools_are_fitted_non_centred(schools):
    """log p(y) = -31.33; the best Gaussian in the model's own coordinates is at -35.8, a flow there at -31.6."""
    assert schools.elbo.value > -31.6
    assert schools.elbo.value < -31.3 + 3 * schools.elbo.se
    assert "non-centred" in schools.status
    kept = [row for row in schools.outcome.stages if row["kept"]]
    assert len(kept) == 1
    assert "'theta'" in kept[0]["family"]
    assert schools.summary().loc["tau", "mean"] == pytest.approx(3.6, abs=0.3)  # long runs of NUTS say 3.6


def test_integrated_schools_are_trusted():
    """With the effects integrated out, importance draws for the two others leave next to nothing."""
    fit = jn.fit(centred, DATA)
    assert "integrated out" in fit.status
    assert fit.check().verdict == "trusted"
    assert fit.elbo.value == pytest.approx(-31.32, abs=0.03)
    assert fit.summary().loc["tau", "mean"] == pytest.approx(3.6, abs=0.3)


def test_draws_and_densities_are_in_the_models_own_terms(schools):
    draws = schools.sample(4000, raw=True)
    np.testing.assert_allclose(draws["far"], draws["theta"] - draws["mu"][:, None], atol=1e-12)
    assert np.corrcoef(np.log(draws["tau"]), np.log(np.abs(draws["far"][:, 0])))[0, 1] > 0.4  # the funnel
    own = build(centred, DATA, "double")
    latent = {name: draws[name][0] for name in ("mu", "tau", "theta")}
    u, v = own.unconstrain(latent), schools.target.unconstrain(latent)
    with working("double"):
        by_hand = float(schools.q.log_prob(jnp.asarray(v))) - schools.target.log_det(v)
        assert float(schools.approximation.log_prob(latent)) == pytest.approx(by_hand, abs=1e-9)
    assert np.abs(u - v).max() > 1e-3


def test_a_saved_fit_remembers_its_coordinates(schools, tmp_path):
    schools.save(tmp_path / "f.jn")
    again = jn.load(tmp_path / "f.jn").attach(centred, DATA)
    for name, values in schools.sample(20, raw=True).items():
        np.testing.assert_array_equal(again.sample(20, raw=True)[name], values)
    assert again.answer.elbo(3) == schools.answer.elbo(3)


def test_the_plan_says_which_sites_may_move():
    plan = jn.explain(centred, DATA)
    rows = {row.site: row.update for row in plan.rows}
    assert rows["theta"].endswith("8 coordinates, or non-centred")
    assert "non-centred" not in rows["mu"]
    assert "'theta' non-centred" in " ".join(plan.method)


def test_effects_that_the_data_determine_stay_centred():
    """c = s² d / (1 + s² d) with data precision d: the fitted precision of v is 1 + s² d, here 1 + 1/σ² at τ = 1."""
    sigma = np.array([0.1, 1.0, 30.0])

    def known(y):
        tau = numpyro.sample("tau", dist.LogNormal(0.0, 1e-3))
        with numpyro.plate("row", 3):
            theta = numpyro.sample("theta", dist.Normal(0.0, tau))
            numpyro.sample("y", dist.Normal(theta, sigma), obs=y)

    target = noncentred(build(known, {"y": np.array([1.0, -1.0, 1.0])}, "double"))
    precision = np.diag([1e6, *(1 + 1 / sigma**2)])
    q = FullRank.from_factor(np.zeros(4), np.diag(np.diag(precision) ** -0.5))
    shares = noncentring.informed(target, q)["theta"]
    np.testing.assert_allclose(shares, 1 / (1 + sigma**2), atol=1e-12)
    assert noncentring.described(noncentred(target, {"theta": np.ones(3)})) == "centred"
    assert noncentring.described(target) == "'theta' non-centred"
    assert noncentring.described(noncentred(target, {"theta": shares})) == "'theta' partly non-centred"


def test_a_gain_within_the_error_is_no_gain():
    def at(bound, error):
        return Measured("", None, bound, error, 0.0)

    assert not at(0.1, 0.05).beats(at(0.0, 0.05))
    assert at(0.2, 0.05).beats(at(0.0, 0.05))
    assert at(0.0, 0.1).beats(at(-np.inf, np.inf))
    assert not at(-np.inf, np.inf).beats(at(0.0, 0.1))


def test_a_flow_that_contradicts_itself_has_no_bound():
    """Layers so steep that the way back is not the way out: the density of its draws counts for nothing."""
    with working("double"):
        flow = Flow.around(FullRank.from_factor(np.zeros(3), np.eye(3)), layers=2)
        broken = Flow(flow.loc, flow.log_diagonal, flow.lower, [400.0 * x for x in flow.arrays], layers=2)
        _, fine = flow.host_scored(256, 0)
        _, log_q = broken.host_scored(256, 0)
    assert np.isfinite(fine).all()
    assert np.isnan(log_q).any()


def _advice(*families, q=None):
    return untried(Outcome(q, True, "", stages=tuple({"family": name} for name in families)))


def test_a_remedy_is_none_that_has_been_tried():
    start = FullRank.from_factor(np.zeros(1), np.eye(1))
    assert "full_rank" in _advice(q=MeanField(np.zeros(1), np.zeros(1)))
    assert "full_rank" not in _advice("curvature at the mode", "full rank", q=start)
    assert "escalate=True" in _advice("curvature at the mode", "full rank", q=start)
    assert "auto" not in _advice("full rank", "mixture of 8", "flow", q=start)
    assert _advice("full rank", "flow", q=start) == ""
    assert _advice(q=start) == "Take method='auto' or write hierarchical scales non-centred."


@pytest.mark.parametrize("seed", range(4))
def test_a_mixture_by_importance_draws_has_sds_that_the_seed_does_not_decide(seed):
    """A Student t of 8 degrees of freedom in three coordinates, whose sds are √(8 / 6)."""
    law = stats.multivariate_t(np.zeros(3), np.eye(3), df=8)
    target = SimpleNamespace(dim=3, work=1, value=law.logpdf)
    q = adapted(target, FullRank.from_factor(np.zeros(3), np.eye(3)), 6, seed)
    weights = np.exp(np.asarray(q.logits) - np.logaddexp.reduce(np.asarray(q.logits)))
    means, lower = np.asarray(q.components.loc), np.tril(np.asarray(q.components.lower), -1)
    squares = np.sum(lower**2, axis=2) + np.exp(2 * np.asarray(q.components.log_diagonal)) + means**2
    np.testing.assert_allclose(np.sqrt(weights @ squares - (weights @ means) ** 2), np.sqrt(8 / 6), rtol=0.06)
    assert np.abs(weights @ means).max() < 0.06


def test_draws_of_a_mixture_and_its_relatives_tell_an_sd_with_a_quarter_of_the_noise_of_independent_ones():
    """Of exp(x) under a standard normal, whose variance is e (e - 1): from weights whose mean is one."""
    means, factors = np.array([[-1.0, 0.0], [1.0, 0.5]]), np.stack([np.eye(2), 0.8 * np.eye(2)])
    logs, size = np.log([0.3, 0.7]), 2048
    found, noise = [], []
    for seed in range(20):
        points, log_proposal = _draw(means, factors, logs, size, seed)
        weights = np.exp(stats.multivariate_normal(np.zeros(2)).logpdf(points) - log_proposal)
        terms = weights * np.exp(points[:, 0])
        found.append((weights.mean(), terms.mean()))
        noise.append((weights.std(), terms.std()))
    expected = np.array([1.0, np.exp(0.5)])
    independent = np.mean(noise, axis=0) / np.sqrt(size)
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=independent.max() / 5)
    assert (np.std(found, axis=0) < independent / 4).all()


@pytest.mark.parametrize(("dim", "next_one"), [(10, "mixtures"), (30, "trajectories")])
def test_what_the_verdict_may_ask_for_is_what_reaches_more_in_so_many_coordinates(dim, next_one):
    target = build(jn.LogDensity(lambda z: -jnp.sum(jnp.cosh(z["x"])), {"x": dim}), {}, "double")
    work = escalation.Work(target, Outcome(None, True, ""), None, 0, False, None, SimpleNamespace(gap=1.0), None, None)
    work.kept, work.outcome, work.around = work.gaussian, work.first, FullRank.from_factor(np.zeros(dim), np.eye(dim))
    list(escalation._later(work))
    asked = work.outcome.further.func.__name__
    assert asked == {"mixtures": "_mixtures", "trajectories": "moved"}[next_one]
    (said,) = escalation._of_mixtures(target)
    assert next_one in said
