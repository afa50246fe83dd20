"""Coordinate methods through `jn.fit`: one result, one verdict, one file format."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special

import jensen as jn

X = np.array([-2.1, -1.7, -2.4, 1.9, 2.2, 2.6, 0.3, -0.4])
Y = np.random.default_rng(0).normal(2, 3, size=30)
EVIDENCE = -17.88598379  # by enumeration of the 256 assignments
BOUND = -18.91182754


def mixture(x, K=2):
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.Normal(0, 3.0))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(np.ones(K) / K))
        numpyro.sample("x", dist.Normal(mu[c], 1.0), obs=x)


def normal(y):
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    tau = numpyro.sample("tau", dist.Gamma(1, 1))
    numpyro.deterministic("sd", tau**-0.5)
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(mu, tau**-0.5), obs=y)


def coin(y):
    p = numpyro.sample("p", dist.Beta(1, 1))
    with numpyro.plate("toss", len(y)):
        numpyro.sample("y", dist.Bernoulli(p), obs=y)


@pytest.fixture(scope="module")
def mixture_fit():
    return jn.fit(mixture, {"x": X}, method=jn.cavi(init={"mu": np.array([-1.0, 1.0])}))


@pytest.fixture(scope="module")
def normal_fit():
    return jn.fit(normal, {"y": Y}, method="cavi")


def normal_by_quadrature():
    """(log p(y), means and sds of mu and tau) on a grid; tau's marginal is one-dimensional once mu is integrated."""
    tau = np.linspace(1e-4, 1.0, 200_001)
    n, precision = len(Y), 0.01 + len(Y) * tau
    mean = tau * Y.sum() / precision
    log_p = -tau + 0.5 * n * np.log(tau / (2 * np.pi)) - 0.5 * tau * (Y**2).sum()
    log_p += 0.5 * np.log(0.01 / precision) + 0.5 * precision * mean**2
    top = log_p.max()
    weights = np.exp(log_p - top)
    total = weights.sum()
    weights /= total
    mu = weights @ mean
    sd_mu = np.sqrt(weights @ (1 / precision + mean**2) - mu**2)
    sd_tau = np.sqrt(weights @ tau**2 - (weights @ tau) ** 2)
    return top + np.log(total * (tau[1] - tau[0])), {"mu": (mu, sd_mu), "tau": (weights @ tau, sd_tau)}


def test_one_block_is_exact():
    fit = jn.fit(coin, {"y": np.array([1, 0, 1])}, method="cavi")
    exact = special.betaln(3, 2)
    assert fit.elbo.value == pytest.approx(exact, abs=1e-12)
    assert fit.elbo.se == 0.0
    assert fit.evidence().log_evidence == pytest.approx(exact, abs=1e-12)
    assert fit.check().verdict == "trusted"
    assert fit.summary().loc["p", "mean"] == pytest.approx(0.6, abs=1e-12)
    assert fit.decompose().gap == pytest.approx(0.0, abs=1e-12)


def test_the_mixture_of_the_textbook(mixture_fit):
    assert mixture_fit.elbo.value == pytest.approx(BOUND, abs=1e-8)
    evidence = mixture_fit.evidence()
    # One labelling is described: the other one holds as much evidence again, and is counted.
    assert evidence.log_evidence == pytest.approx(EVIDENCE, abs=0.02)
    assert evidence.one_labelling == pytest.approx(EVIDENCE - np.log(2), abs=0.02)
    assert evidence.interval[0] <= EVIDENCE <= evidence.interval[1]
    assert evidence.elbo < evidence.importance_weighted[10][0] < evidence.importance_weighted[100][0] + 0.05
    parts = mixture_fit.decompose()
    assert parts.energy + parts.entropy == pytest.approx(BOUND, abs=1e-8)
    assert parts.reconstruction - parts.kl == pytest.approx(BOUND, abs=1e-8)


def test_the_correction_finds_the_posterior(normal_fit):
    evidence, moments = normal_by_quadrature()
    assert normal_fit.elbo.value < evidence
    assert normal_fit.evidence().log_evidence == pytest.approx(evidence, abs=5e-3)
    weights, draws = normal_fit.pool.weights, normal_fit._pool_draws
    for name, (mean, sd) in moments.items():
        corrected = weights @ draws[name]
        assert abs(corrected - mean) < 0.08 * sd
        assert np.sqrt(weights @ (draws[name] - corrected) ** 2) == pytest.approx(sd, rel=0.06)
    assert normal_fit.check().verdict == "trusted"
    np.testing.assert_allclose(draws["sd"], draws["tau"] ** -0.5)


def test_dependence_that_factors_miss_is_not_trusted():
    """Two regression weights on nearly the same column: q's sds are far too small, and the verdict knows."""
    rng = np.random.default_rng(1)
    first = rng.normal(size=40)
    second = first + 0.05 * rng.normal(size=40)
    y = first + second + rng.normal(size=40)

    def regression(first, second, y):
        a = numpyro.sample("a", dist.Normal(0, 5))
        b = numpyro.sample("b", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.Gamma(2, 2))
        numpyro.sample("y", dist.Normal(a * first + b * second, tau**-0.5), obs=y)

    data = {"first": first, "second": second, "y": y}
    alone = jn.fit(regression, data, method=jn.cavi(max_sweeps=20_000))
    together = jn.fit(regression, data, method=jn.cavi(blocks=[("a", "b")]))
    assert alone.check().verdict != "trusted"
    assert together.check().verdict == "trusted"
    assert together.elbo.value > alone.elbo.value + 1.0
    # The automatic choice must not be worse than the better of the two by more than its own noise.
    auto = jn.fit(regression, data)
    assert auto.elbo.value > together.elbo.value - 0.2


@pytest.mark.parametrize("method", ["cavi", "naive"])
def test_it_saves_loads_and_attaches(method, tmp_path):
    fit = jn.fit(normal, {"y": Y}, method=method)
    fit.save(tmp_path / "fit.jn")
    again = jn.load(tmp_path / "fit.jn")
    assert again.elbo.value == fit.elbo.value
    assert again.check() == fit.check()
    assert again.summary().equals(fit.summary())
    with pytest.raises(jn.UndefinedError, match="needs its model"):
        _ = again.q
    attached = again.attach(normal, {"y": Y})
    for name, mean in attached.q.means().items():
        np.testing.assert_array_equal(mean, fit.q.means()[name])
    np.testing.assert_array_equal(attached.sample(5)["sd"], fit.sample(5)["sd"])
    assert attached.decompose() == fit.decompose()


def test_discrete_latents_in_draws_arviz_and_predictions(mixture_fit):
    draws = mixture_fit.sample(2000, raw=True)
    assert draws["c"].dtype.kind == "i"
    q = mixture_fit.q.factor("c").natural["indicator"]
    probs = special.softmax(np.asarray(q), axis=-1)[:, 1]
    np.testing.assert_allclose(draws["c"].mean(axis=0), probs, atol=4 * 0.5 / np.sqrt(2000))
    tree = mixture_fit.to_arviz(50)
    assert tree["posterior"]["c"].dims == ("chain", "draw", "row")
    assert tree["log_likelihood"]["x"].shape == (1, 50, 8)
    predicted = mixture_fit.predict(num_draws=500)["x"]
    assert predicted[:, 2].mean() < -0.5 < 0.5 < predicted[:, 5].mean()
    # Of new rows nothing is known: their labels come from the prior.
    new = mixture_fit.predict({"x": np.zeros(3)}, num_draws=500)["x"]
    assert new.shape == (500, 3)
    assert abs(new.mean()) < 0.5


def test_auto_keeps_the_higher_of_coordinate_ascent_and_a_gaussian():
    """The labels are summed out for the Gaussian, which lifts its bound above that of independent labels."""
    fit = jn.fit(mixture, {"x": X})
    bounds = {stage["family"]: stage["elbo"] for stage in fit.outcome.stages}
    assert bounds["conjugate factors"] == pytest.approx(BOUND, abs=1e-6)
    assert BOUND < fit.elbo.value < EVIDENCE
    assert fit.check().verdict == "trusted"
    assert any("labelling" in reason for reason in fit.check().reasons)


def test_interrupted_it_returns_what_there_is():
    def stop(item):
        if item.phase == "ascent" and item.step >= 1:
            raise KeyboardInterrupt

    fit = jn.fit(normal, {"y": Y}, method="cavi", progress=stop)
    assert not fit.converged
    assert "Interrupted" in fit.status
    assert np.isfinite(fit.elbo.value)
    assert fit.q.means()["mu"].shape == ()


def test_a_log_density_has_no_updates():
    model = jn.LogDensity(lambda z: -0.5 * z["x"] ** 2, {"x": ()})
    with pytest.raises(jn.ModelError, match="derived from a NumPyro program"):
        jn.fit(model, method="cavi")


def test_a_site_without_a_conjugate_factor_gets_a_gaussian(tmp_path):
    """Logistic regression: the precision's update is exact, the weights' Gaussian is fitted, in one verdict."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 2))
    y = (rng.uniform(size=100) < special.expit(x @ [1.0, -1.0])).astype(int)

    def logistic(x, y):
        tau = numpyro.sample("tau", dist.Gamma(2.0, 2.0))
        with numpyro.plate("weight", x.shape[1]):
            w = numpyro.sample("w", dist.Normal(0, tau**-0.5))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    data = {"x": x, "y": y}
    fit = jn.fit(logistic, data, method="cavi")
    assert "Hybrid" in fit.status
    assert fit.check().verdict in ("trusted", "usable")
    # The integral over the three latents, by quadrature over (log tau, w).
    log_evidence = logistic_evidence(x, y)
    assert fit.elbo.value - 3 * fit.elbo.se < log_evidence
    assert fit.evidence().log_evidence == pytest.approx(log_evidence, abs=0.02)
    parts = fit.decompose(log_evidence)
    assert parts.elbo == pytest.approx(fit.elbo.value, abs=0.05)
    fit.save(tmp_path / "hybrid.jn")
    again = jn.load(tmp_path / "hybrid.jn").attach(logistic, data)
    np.testing.assert_array_equal(again.sample(3)["w"], fit.sample(3)["w"])


def logistic_evidence(x, y):
    log_tau = np.linspace(-5, 4, 200)
    grid = np.linspace(-3.5, 3.5, 141)
    first, second = (w.reshape(-1) for w in np.meshgrid(grid, grid, indexing="ij"))
    logits = np.outer(first, x[:, 0]) + np.outer(second, x[:, 1])
    likelihood = logits @ y - np.logaddexp(0, logits).sum(axis=1)
    squares = first**2 + second**2
    tau = np.exp(log_tau)
    prior = np.log(tau / (2 * np.pi)) - 0.5 * np.outer(squares, tau)  # two weights
    mixed = special.logsumexp(likelihood[:, None] + prior, axis=0) + 2 * np.log(grid[1] - grid[0])
    gamma = 2 * np.log(2) + 2 * log_tau - 2 * tau  # Gamma(2, 2) on the log scale
    return special.logsumexp(mixed + gamma) + np.log(log_tau[1] - log_tau[0])


def test_latents_of_a_streamed_plate_come_with_the_draws():
    """Of 5,000 rows the labels are left out of tables, and drawn given the rest when asked for."""
    x = np.concatenate([np.random.default_rng(2).normal(size=2500) + shift for shift in (-3, 3)])
    fit = jn.fit(mixture, {"x": x}, method="cavi")
    draws = fit.sample(20)
    assert draws["c"].shape == (20, 5000)
    low = int(draws["mu"][0].argmin())
    assert ((draws["c"][0] == low) == (x < 0)).mean() > 0.99
    assert list(fit.summary().index) == ["mu[0]", "mu[1]"]
    with pytest.raises(jn.OptionError, match="2 GB"):
        fit.sample(100_000)


@pytest.mark.slow
def test_a_count_seen_closely_has_a_narrow_factor():
    """A Poisson latent seen with unit noise has sd 0.9, less than a Poisson's own."""

    def counts(y):
        n = numpyro.sample("n", dist.Poisson(5.0))
        numpyro.sample("y", dist.Normal(n, 1.0), obs=y)

    values = np.arange(60)
    log_p = values * np.log(5.0) - special.gammaln(values + 1) - 0.5 * (6.0 - values) ** 2
    p = special.softmax(log_p)
    mean = p @ values
    sd = np.sqrt(p @ values**2 - mean**2)
    fit = jn.fit(counts, {"y": 6.0})
    assert float(fit.q.variances()["n"]) == pytest.approx(sd**2, rel=0.1)
    assert fit.check().verdict in ("trusted", "usable")
    draws = fit.sample(4000)["n"]
    assert abs(draws.mean() - mean) < 0.1 * sd
    assert draws.std() == pytest.approx(sd, rel=0.1)
