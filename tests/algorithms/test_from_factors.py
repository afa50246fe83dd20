"""The default method where coordinate ascent has been: where its Gaussian begins, what it may cost, what it says."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

import jensen as jn
from jensen._gaussian.start_from_factors import EFFORT, FEWEST, gaussian_near, point_near, steps_for
from jensen._model import build
from jensen._model.target import DEAR, STATE

RNG = np.random.default_rng(5)
X = RNG.normal(np.where(RNG.uniform(size=3000) < 0.3, -1.0, 1.0), 1.0)


def mixture(x):
    """Unequal weights, so that there is one labelling; the components overlap, so that labels depend on each other."""
    with numpyro.plate("component", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 5.0))
    with numpyro.plate("row", len(x)):
        z = numpyro.sample("z", dist.Categorical(np.array([0.3, 0.7])))
        numpyro.sample("x", dist.Normal(mu[z], 1.0), obs=x)


def exact():
    """log p(x) and posterior means of mu on a grid around the mode (the swapped order is 50 nats below)."""
    low, high = np.linspace(-1.5, -0.5, 201), np.linspace(0.7, 1.3, 201)
    rows = np.logaddexp(
        np.log(0.3) + norm.logpdf(X, low[:, None], 1.0)[:, None], np.log(0.7) + norm.logpdf(X, high[:, None], 1.0)
    ).sum(axis=-1)
    logs = rows + norm.logpdf(low, 0, 5)[:, None] + norm.logpdf(high, 0, 5)
    area = (low[1] - low[0]) * (high[1] - high[0])
    p = np.exp(logs - logsumexp(logs))
    return logsumexp(logs) + np.log(area), np.array([(p.sum(1) * low).sum(), (p.sum(0) * high).sum()])


@pytest.fixture(scope="module")
def fits():
    return jn.fit(mixture, {"x": X}, progress=False), jn.fit(mixture, {"x": X}, "cavi", progress=False)


def test_the_gaussian_begins_where_coordinate_ascent_found_the_mass(fits):
    default, factors = fits
    target = build(mixture, {"x": X}, "double")
    begin = gaussian_near(target, factors.outcome)
    means, sds = factors.q.means()["mu"], np.sqrt(factors.q.variances()["mu"])
    np.testing.assert_allclose(begin.loc, means, atol=5 * sds.max() / 32)
    np.testing.assert_allclose(begin.scales(), sds, rtol=0.1)
    np.testing.assert_allclose(point_near(target, factors.outcome), means, atol=1e-9)
    kept = [row["family"] for row in default.outcome.stages if row["kept"]]
    assert kept != ["conjugate factors"]
    assert default.timings["gradients"] < 10_000  # no random climbs: batches of 64 points at each of hundreds of steps


@pytest.mark.slow
def test_it_is_right_where_factors_are_not(fits):
    default, factors = fits
    log_evidence, means = exact()
    assert factors.elbo.value < log_evidence - 0.2
    assert default.elbo.value > factors.elbo.value + 0.2
    low, high = default.evidence().interval
    assert low - 0.01 < log_evidence < high + 0.01
    assert default.check().verdict == "trusted"
    sd = default.q.scales()
    assert np.abs(np.sort(default.summary()["mean"].to_numpy()[:2]) - means).max() < 0.1 * sd.max()


def test_an_account_of_work_says_how_many_steps():
    target = build(mixture, {"x": X}, "double")
    assert target.work == target.elements + STATE * 2 * len(X) >= DEAR
    assert target.dear
    assert not target.heavy
    assert steps_for(target, 64, 44) == int(min(44, EFFORT / (64 * target.work + 800)))
    target.dim = 300  # a matrix of 300 columns is worked on at every step
    assert steps_for(target, 1200, 640) == 0
    target.dim, target.work = 2, EFFORT / (64 * FEWEST) + 1e6
    assert steps_for(target, 64, 44) == 0
