"""Gibbs sweeps from coordinate ascent: exact conditionals, so exact posteriors, against quadrature and enumeration."""

import itertools

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special, stats

import jensen as jn
from jensen._conjugate.coordinate import gibbs
from jensen._fit.answers import answer_for
from tests.runs import ended

FEW, SIX = np.array([0.2, 1.9, 3.1]), np.array([-1.0, -0.2, 0.4, 0.9, 1.5, 2.5])


def semiconjugate(x):
    """A mean and a precision of three rows, which q takes as independent."""
    mean = numpyro.sample("mean", dist.Normal(0, 2))
    tau = numpyro.sample("tau", dist.Gamma(1.0, 1.0))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(mean, tau**-0.5), obs=x)


def overlapping(x):
    """Two components that overlap, of different weights."""
    with numpyro.plate("component", 2):
        mean = numpyro.sample("mean", dist.Normal(0, 1.5))
    with numpyro.plate("row", len(x)):
        label = numpyro.sample("label", dist.Categorical(np.array([0.2, 0.8])))
        numpyro.sample("x", dist.Normal(mean[label], 1), obs=x)


def chains(model, x):
    """(draws under equal weights, the answer, its evidence) of sweeps from coordinate ascent."""
    fit = jn.fit(model, {"x": x}, "cavi", progress=False)
    outcome = ended(gibbs.swept(0, fit.outcome))
    assert isinstance(outcome.q, gibbs.Swept), outcome.status
    answer = answer_for(None, outcome, 0)
    pool = answer.pool(1)
    draws = answer.draws_of(pool)
    assert pool.weights[: pool.half].sum() == 0.0
    assert np.isclose(pool.weights.sum(), 1.0)
    return {name: values[pool.half :] for name, values in draws.items()}, answer, answer.evidence(pool)


def two_of_three(x):
    """Two components for three clumps: which two share one is a matter of where the ascent began."""
    with numpyro.plate("component", 2):
        mean = numpyro.sample("mean", dist.Normal(0, 10))
    with numpyro.plate("row", len(x)):
        label = numpyro.sample("label", dist.Categorical(np.array([0.5, 0.5])))
        numpyro.sample("x", dist.Normal(mean[label], 1), obs=x)


def test_chains_that_do_not_reach_another_optimum_are_not_kept():
    x = np.concatenate([centre + np.array([-0.5, -0.1, 0.1, 0.5]) for centre in (-8.0, 0.0, 8.0)])
    fit = jn.fit(two_of_three, {"x": x}, jn.cavi(restarts=8, moves=False), progress=False)
    assert fit.outcome.elsewhere
    left = ended(gibbs.swept(0, fit.outcome))
    assert left.q is fit.outcome.q
    assert left.certificate.share_elsewhere > 0.3
    assert "Tried without gain" in left.status


def close(draws, mean, sd):
    """Whether a mean and an sd are right to within four standard errors of independent draws."""
    count = len(draws)
    assert abs(draws.mean(axis=0) - mean).max() < 4.0 * np.max(sd) / np.sqrt(count)
    assert abs(draws.std(axis=0) / sd - 1.0).max() < 4.0 * 1.5 / np.sqrt(2.0 * count)


def test_a_mean_and_a_precision_against_quadrature():
    draws, _, evidence = chains(semiconjugate, FEW)
    mean, tau = np.meshgrid(np.linspace(-8, 8, 801), np.linspace(1e-4, 12, 2400), indexing="ij")
    logs = stats.norm(0, 2).logpdf(mean) + stats.gamma(1.0).logpdf(tau)
    logs += sum(stats.norm.logpdf(x, mean, tau**-0.5) for x in FEW)
    log_z = np.log(np.exp(logs).sum() * 0.02 * (tau[0, 1] - tau[0, 0]))
    assert abs(evidence.log_evidence - log_z) < 4.0 * evidence.log_evidence_se + 1e-3 < 0.3
    p = np.exp(logs - logs.max())
    p /= p.sum()
    for name, grid in (("mean", mean), ("tau", tau)):
        centre = (p * grid).sum()
        close(draws[name], centre, np.sqrt((p * (grid - centre) ** 2).sum()))


def test_a_mixture_against_enumeration_of_all_labels():
    draws, answer, evidence = chains(overlapping, SIX)
    labels = np.array(list(itertools.product((0, 1), repeat=len(SIX))))
    logs, means, squares = np.zeros(len(labels)), np.zeros((len(labels), 2)), np.zeros((len(labels), 2))
    for row, z in enumerate(labels):
        logs[row] = np.log(np.array([0.2, 0.8])[z]).sum()
        for k in (0, 1):
            x = SIX[z == k]
            precision = 1 / 1.5**2 + len(x)
            means[row, k] = x.sum() / precision
            squares[row, k] = means[row, k] ** 2 + 1 / precision
            covariance = np.eye(len(x)) + 1.5**2
            logs[row] += stats.multivariate_normal(np.zeros(len(x)), covariance).logpdf(x) if len(x) else 0.0
    p = np.exp(logs - logs.max())
    p /= p.sum()
    mean = p @ means
    close(draws["mean"], mean, np.sqrt(p @ squares - mean**2))
    right = p @ labels
    close(draws["label"], right, np.sqrt(right * (1 - right)))
    assert abs(evidence.log_evidence - np.logaddexp.reduce(logs)) < 4.0 * evidence.log_evidence_se < 0.4
    assert answer.elbo(0)[0] < np.logaddexp.reduce(logs)  # q and its bound stay those of the factors


@pytest.mark.slow
def test_topics_are_usable_and_survive_a_file(tmp_path):
    rng = np.random.default_rng(0)
    phi, theta = rng.dirichlet(np.full(12, 0.1), 3), rng.dirichlet(np.full(3, 0.3), 15)
    doc = np.repeat(np.arange(15), 30)
    word = np.array([rng.choice(12, p=phi[rng.choice(3, p=theta[d])]) for d in doc])

    def model(word, doc):
        with numpyro.plate("topic", 3):
            phi = numpyro.sample("phi", dist.Dirichlet(np.full(12, 0.1)))
        with numpyro.plate("document", 15):
            theta = numpyro.sample("theta", dist.Dirichlet(np.full(3, 0.3)))
        with numpyro.plate("token", len(word)):
            z = numpyro.sample("z", dist.Categorical(theta[doc]))
            numpyro.sample("word", dist.Categorical(phi[z]), obs=word)

    data = {"word": word, "doc": doc}
    fit = jn.fit(model, data, progress=False)
    assert fit.check().verdict == "usable", fit.check()
    fit.save(tmp_path / "topics.jn")
    again = jn.load(tmp_path / "topics.jn").attach(model, data)
    assert again.check().verdict == "usable"
    assert again.approximation.factors.keys() == fit.approximation.factors.keys()
    assert np.allclose(again.answer.points, fit.answer.points)


def test_sweeps_that_are_far_from_enough_are_given_up():
    """Ten times as many draws bring r̂ from 2.5 to 1.15 at best and 4 effective draws to 40; 1.5 and 20 may do."""
    assert gibbs._hopeless(2.5, 200.0, 10.0)
    assert gibbs._hopeless(1.02, 4.0, 10.0)
    assert not gibbs._hopeless(1.5, 20.0, 10.0)
    assert gibbs._hopeless(1.5, 20.0, 2.0)


@pytest.mark.slow
def test_sweeps_that_stay_untrusted_are_followed_by_what_lies_beyond(tmp_path):
    """Nine rows, three components: at this seed no Gaussian has a higher bound, and the chains' tails disagree.

    log p(x) is the sum over all labels, given which means and weights are integrated out.
    """

    def three(x):
        weights = numpyro.sample("weights", dist.Dirichlet(np.ones(3)))
        with numpyro.plate("component", 3):
            mean = numpyro.sample("mean", dist.Normal(0, 5))
        with numpyro.plate("row", len(x)):
            label = numpyro.sample("label", dist.Categorical(weights))
            numpyro.sample("x", dist.Normal(mean[label], 1), obs=x)

    x = np.array([-3.1, -2.4, -2.9, -3.6, 1.9, 2.2, 2.7, 1.4, 2.0])
    labels = np.array(list(itertools.product(range(3), repeat=9)))
    exact = special.gammaln(3) - special.gammaln(12) - 4.5 * np.log(2 * np.pi)
    for k in range(3):
        n, s, squares = (labels == k).sum(1), (labels == k) @ x, (labels == k) @ x**2
        quadratic = squares - 25 * s**2 / (1 + 25 * n)
        exact = exact + special.gammaln(n + 1) - 0.5 * np.log1p(25 * n) - 0.5 * quadratic
    fit = jn.fit(three, {"x": x}, seed=1, progress=False)
    families = [row["family"] for row in fit.outcome.stages]
    assert families[:2] == ["conjugate factors", "Gaussian"]  # so that the factors were swept first
    assert [row["phase"] for row in fit.history].count("Gibbs sweeps") > 0
    assert fit.check().verdict == "trusted"
    low, high = fit.evidence().interval
    assert low - 0.01 < special.logsumexp(exact) < high + 0.01
    fit.save(tmp_path / "fit.jensen")
    again = jn.load(tmp_path / "fit.jensen").attach(three, {"x": x})
    np.testing.assert_array_equal(again.sample(50)["mean"], fit.sample(50)["mean"])
