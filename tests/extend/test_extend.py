"""Bounds, families, methods and checks that live outside the package, each in a real fit with a known answer."""

import ast
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special, stats

import jensen as jn
from jensen.extend import AbstractContinuous, AbstractLocationScale, Outcome
from tests.extend import exponential  # noqa: F401
from tests.extend.bound import Thermodynamic
from tests.extend.check import Dispersion
from tests.extend.family import Logistic
from tests.extend.method import ScoreMatching
from tests.extend.program import Toy
from tests.test_examples import blocks

HERE = Path(__file__).parent
OUTSIDE = sorted(path for path in HERE.glob("*.py") if not path.name.startswith(("test_", "__")))
X = np.array([-1.2, 0.1, 0.4, 0.9, 1.7])
Y = np.array([0.3, 1.1, 0.8, 2.0, 2.9])


def line(x, y):
    a = numpyro.sample("a", dist.Normal(0.0, 2.0))
    b = numpyro.sample("b", dist.Normal(0.0, 2.0))
    numpyro.sample("y", dist.Normal(a + b * x, 0.5), obs=y)


def posterior():
    """Mean, covariance and log evidence of the line."""
    design = np.stack([np.ones(5), X], axis=1)
    covariance = np.linalg.inv(np.eye(2) / 4.0 + design.T @ design / 0.25)
    evidence = stats.multivariate_normal(np.zeros(5), 4.0 * design @ design.T + 0.25 * np.eye(5)).logpdf(Y)
    return covariance @ design.T @ Y / 0.25, covariance, evidence


def check_exact(fit):
    mean, covariance, evidence = posterior()
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((np.asarray(fit.q.loc) - mean) / sd, 0.0, atol=0.05)
    np.testing.assert_allclose(fit.q.covariance() / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.05)
    assert fit.elbo.value == pytest.approx(evidence, abs=0.01)
    assert fit.check().verdict == "trusted"


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.stem)
def test_what_is_added_from_outside_is_short_and_imports_what_is_public(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 80
    modules = [node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert {name for name in modules if name.startswith("jensen")} <= {"jensen", "jensen.extend"}


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.stem)
def test_the_page_shows_what_is_tested_here(path):
    page = (HERE.parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8").strip() in [block.strip() for block in blocks(page, "python")]


def test_a_method_finds_the_posterior():
    check_exact(jn.fit(line, {"x": X, "y": Y}, ScoreMatching()))


def test_a_bound_is_highest_at_the_posterior():
    options = {"bound": Thermodynamic(8, 4), "estimator": jn.Pathwise(128)}
    check_exact(jn.fit(line, {"x": X, "y": Y}, jn.advi(family="full_rank", engine="stochastic", **options)))


def test_a_bound_lies_between_the_elbo_and_the_importance_weighted_one():
    logs = jnp.asarray(np.random.default_rng(0).normal(size=400) * 2.0)
    low, high = float(jn.ELBO()(logs)), float(jn.ImportanceWeighted(8)(logs))
    values = [float(Thermodynamic(8, count)(logs)) for count in (1, 2, 4, 64)]
    assert values[0] == pytest.approx(low)
    assert np.all(np.diff([*values, high]) > 0)


@pytest.fixture(scope="module")
def heavy():
    """A density with logistic tails in two directions: (fit by `Logistic`, its location, its factor)."""
    loc, factor = np.array([1.0, -2.0]), np.array([[0.5, 0.0], [0.8, 1.5]])

    def log_p(z):
        s = jax.scipy.linalg.solve_triangular(jnp.asarray(factor), z["u"] - loc, lower=True)
        return jnp.sum(-s - 2.0 * jax.nn.softplus(-s))

    model = jn.LogDensity(log_p, {"u": 2})
    return model, jn.fit(model, None, jn.advi(family=Logistic, num_starts=2)), loc, factor


def test_a_family_reaches_the_posterior_that_it_holds(heavy):
    """The evidence is log |L|; a Gaussian of the same moments would fall 0.014 nats short in each direction."""
    _, fit, loc, factor = heavy
    assert isinstance(fit.q, Logistic)
    assert fit.elbo.value == pytest.approx(np.linalg.slogdet(factor)[1], abs=0.005)
    np.testing.assert_allclose(fit.q.frame.loc, loc, atol=0.08)
    np.testing.assert_allclose(fit.q.frame.factor(), factor, atol=0.1)
    assert fit.check().verdict == "trusted"


def test_a_family_is_one_block_of_several():
    method = jn.advi(family={"a": Logistic, "b": "mean_field"})
    assert method.family == ((("a",), Logistic), (("b",), "mean_field"))
    with pytest.raises(jn.OptionError, match="a name, a location-scale family or a mapping"):
        jn.advi(family=ScoreMatching)


def test_a_family_comes_back_from_a_file(heavy, tmp_path):
    model, fit, *_ = heavy
    fit.save(tmp_path / "fit.jn")
    again = jn.load(tmp_path / "fit.jn").attach(model)
    np.testing.assert_array_equal(again.q.frame.lower, fit.q.frame.lower)
    defined = [cls for cls in AbstractLocationScale.__subclasses__() if cls.__name__ == "Logistic"]
    for cls in defined:
        cls.__name__ = "Elsewhere"  # as in a program that does not define it
    try:
        with pytest.raises(jn.SavedFitError, match=r"(?s)a Logistic, a class that this program does not have.*Import"):
            jn.load(tmp_path / "fit.jn")
    finally:
        for cls in defined:
            cls.__name__ = "Logistic"


def counts(y):
    rate = numpyro.sample("rate", dist.Gamma(2.0, 0.5))
    numpyro.sample("y", dist.Poisson(rate).expand([len(y)]), obs=y)


@pytest.mark.parametrize(
    ("y", "verdict"), [([3, 4, 2, 5, 3, 4, 2, 3], "trusted"), ([0, 0, 12, 0, 9, 1, 0, 8], "usable")]
)
def test_a_check_changes_the_verdict(y, verdict):
    """The p-value by quadrature over the gamma posterior."""
    y = np.array(y)
    fit = jn.fit(counts, {"y": y})
    assert fit.check().verdict == "trusted"
    report = fit.with_checks(Dispersion("y", "rate")).check()
    assert report.verdict == verdict
    law = stats.gamma(2.0 + y.sum(), scale=1.0 / (0.5 + len(y)))
    rates = law.ppf((np.arange(2000) + 0.5) / 2000)
    exact = stats.chi2.sf(((y - rates[:, None]) ** 2).sum(axis=1) / rates, len(y)).mean()
    found = next(check for check in report.checks if check.name == "dispersion of y")
    assert found.value == pytest.approx(exact, abs=0.01)
    assert any("do not scatter" in reason for reason in report.reasons) == (verdict == "usable")


ANGLES = np.array([0.3, -0.2, 1.1, 0.5])
GRID = np.linspace(-np.pi, np.pi, 4001)[:-1]


def directions(x, pull):
    mean = numpyro.sample("mean", dist.VonMises(1.0, 0.7))
    numpyro.factor("pull", pull * jnp.cos(mean))
    numpyro.sample("x", dist.VonMises(mean, 2.0).expand([len(x)]), obs=x)


def test_an_exponential_family_is_recognised():
    """Evidence and moments by quadrature on the circle, to rounding: the periodic trapezium rule is exact here."""
    data = {"x": ANGLES, "pull": 0.4}
    fit = jn.fit(directions, data, "cavi")
    log_p = stats.vonmises(0.7, 1.0).logpdf(GRID) + 0.4 * np.cos(GRID)
    log_p = log_p + sum(stats.vonmises(2.0, x).logpdf(GRID) for x in ANGLES)
    weights = np.exp(log_p) * (GRID[1] - GRID[0])
    assert fit.elbo.value == pytest.approx(np.log(weights.sum()), abs=1e-9)
    mean = np.average(GRID, weights=weights)
    variance = np.average((GRID - mean) ** 2, weights=weights)
    assert float(fit.q.means()["mean"]) == pytest.approx(mean, abs=1e-6)
    assert float(fit.q.variances()["mean"]) == pytest.approx(variance, abs=1e-6)
    draws = fit.sample(4000)["mean"]
    assert stats.kstest(draws, lambda z: np.interp(z, GRID, np.cumsum(weights) / weights.sum())).pvalue > 1e-3
    assert fit.check().verdict == "trusted"
    assert "coefficient of sin = 0.58903 + 2 Σ" in str(jn.explain(directions, data))


def test_a_statistic_that_the_family_does_not_have_is_named():
    def model():
        angle = numpyro.sample("angle", dist.VonMises(0.0, 1.0))
        numpyro.sample("y", dist.Normal(3.0 * jnp.cos(angle), 1.0), obs=2.0)

    with pytest.raises(jn.ModelError, match=r"cos\(angle\)\*cos\(angle\).*not a sufficient statistic of a von Mises"):
        jn.fit(model, method="cavi")


def kinds(y):
    where = numpyro.sample("where", dist.VonMises(0.0, 0.5).expand([2]).to_event(1))
    with numpyro.plate("rows", len(y)):
        which = numpyro.sample("which", dist.Bernoulli(0.5))
        numpyro.sample("y", dist.VonMises(where[which], 4.0), obs=y)


def test_an_exponential_family_stands_in_a_product_with_others():
    """The bound lies below the evidence, which enumeration of the kinds gives in closed form."""
    y = np.array([-2.0, 1.0, 1.3, -1.7])
    fit = jn.fit(kinds, {"y": y}, "cavi")
    size = lambda kappa: np.log(2.0 * np.pi * special.i0(kappa))  # noqa: E731
    logs = []
    for which in np.ndindex(*(2,) * 4):
        pulls = [0.5 + 4.0 * np.exp(1j * y)[np.array(which) == kind].sum() for kind in (0, 1)]
        logs.append(sum(size(abs(pull)) for pull in pulls) - 2.0 * size(0.5) - 4.0 * size(4.0) - 4.0 * np.log(2.0))
    evidence = special.logsumexp(logs)
    assert evidence - 1.0 < fit.elbo.value < evidence
    assert np.sort(np.asarray(fit.q.means()["where"])) == pytest.approx([-1.77, 1.09], abs=0.05)


TOY = """
a ~ Normal(0, 2)
b ~ Normal(0, 2)
y := Normal(a + b * x, 0.5)
"""


@pytest.fixture(scope="module")
def toy():
    return Toy(TOY), jn.fit(Toy(TOY), {"x": X, "y": Y})


def test_a_program_in_another_language_is_fitted(toy):
    check_exact(toy[1])
    assert [(site.name, site.dims) for site in toy[1].structure.observed] == [("y", ("y_row",))]


def test_a_program_in_another_language_predicts_and_has_a_likelihood_by_row(toy):
    fit = toy[1]
    mean, covariance, _ = posterior()
    new = np.array([3.0, -3.0])
    drawn = fit.predict({"x": new}, num_draws=4000)["y"]
    design = np.stack([np.ones(2), new], axis=1)
    sd = np.sqrt(np.diag(design @ covariance @ design.T) + 0.25)
    np.testing.assert_allclose(drawn.mean(axis=0), design @ mean, atol=4.0 * sd.max() / np.sqrt(4000))
    np.testing.assert_allclose(drawn.std(axis=0), sd, rtol=0.05)
    draws = {name: values[:3] for name, values in fit.sample(3).items()}
    terms = fit.answer.pointwise(draws, ["y"])["y"]
    expected = stats.norm(draws["a"][:, None] + draws["b"][:, None] * X, 0.5).logpdf(Y)
    np.testing.assert_allclose(terms, expected, rtol=1e-10)


def test_a_program_in_another_language_comes_back_from_a_file(toy, tmp_path):
    model, fit = toy
    fit.save(tmp_path / "fit.jn")
    again = jn.load(tmp_path / "fit.jn").attach(model, {"x": X, "y": Y})
    assert again.elbo.value == fit.elbo.value
    assert "y        observed   Normal" not in str(jn.explain(model, {"x": X, "y": Y}))
    with pytest.raises(jn.JensenError, match="not the data of the saved fit"):
        jn.load(tmp_path / "fit.jn").attach(model, {"x": X, "y": Y + 1.0})


@pytest.mark.parametrize(
    ("data", "method", "message"),
    [
        ({"x": X, "yy": Y}, "auto", "takes no argument 'yy'.*Did you mean 'y'"),
        ({"x": X}, "auto", "needs 'y', which the data lack"),
        ({"x": X, "y": np.where(Y > 2.0, np.nan, Y)}, "auto", "'y' holds 1 missing values"),
        ({"x": X, "y": Y}, "cavi", "derived from a NumPyro program, which a Toy is not"),
    ],
)
def test_what_a_program_in_another_language_is_refused_for(data, method, message):
    with pytest.raises(jn.JensenError, match=message):
        jn.fit(Toy(TOY), data, method)


@pytest.mark.slow
@pytest.mark.parametrize(("gap", "scale", "verdicts"), [(1.0, 2.0, {"trusted", "usable"}), (2.0, 0.5, {"untrusted"})])
def test_a_program_in_another_language_may_have_discrete_latents(gap, scale, verdicts):
    """Evidence and p(k = 1) by enumeration. Where q has lost one value of k, draws of the program's prior show it."""
    toy = Toy(f"k ~ Bernoulli(0.3)\nm ~ Normal(0, 1)\ny := Normal(m + {gap} * k, {scale})")
    fit = jn.fit(toy, {"y": Y})
    assert fit.check().verdict in verdicts
    if "untrusted" not in verdicts:
        spread = scale**2 * np.eye(5) + 1.0
        logs = [stats.multivariate_normal(np.full(5, gap * k), spread).logpdf(Y) for k in (0, 1)]
        evidence = np.logaddexp(np.log(0.7) + logs[0], np.log(0.3) + logs[1])
        assert fit.evidence().log_evidence == pytest.approx(evidence, abs=0.05)
        share = np.exp(np.log(0.3) + logs[1] - evidence)
        assert fit.pool.weights @ fit.answer.drawn(fit.pool)["k"] == pytest.approx(share, abs=0.05)


@dataclass(frozen=True)
class Points:
    """No approximation that anything could be asked of."""


class Nowhere(AbstractContinuous):
    """A method that leaves something unheard of behind."""

    name = "nowhere"

    def run(self, target, seed):
        return Outcome(Points(), True, "Done.")
        yield


def test_an_unknown_kind_of_approximation_is_named():
    with pytest.raises(jn.ModelError, match=r"left a Points behind.*AbstractGaussian"):
        jn.fit(line, {"x": X, "y": Y}, Nowhere())
