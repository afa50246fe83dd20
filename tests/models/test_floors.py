"""Counts whose least value the data set: trials of a binomial of which the successes were seen."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import jensen as jn
from jensen._blackbox.start import starting_product
from jensen._math.precision import working
from jensen._model.native import native_target

SEEN = np.array([3, 0, 5, 1])


def trials(y):
    with numpyro.plate("sites", len(y)):
        z = numpyro.sample("z", dist.Poisson(5.0))
        numpyro.sample("y", dist.Binomial(z, 0.4), obs=y)


def passed_on(y):
    with numpyro.plate("sites", len(y)):
        all_ = numpyro.sample("all", dist.NegativeBinomial2(6.0, 2.0))
        numpyro.sample("y", dist.Binomial(all_ + 2, 0.4), obs=y)


def shared(y):
    z = numpyro.sample("z", dist.Poisson(5.0).expand([2]).to_event(1))
    numpyro.sample("y", dist.Binomial(jnp.sum(z), 0.4), obs=y)


def least(model, y):
    return {name: s.lower_bound for name, s in native_target(model, {"y": y}, "double").supports.items()}


def test_each_row_begins_where_its_data_allow_it():
    np.testing.assert_array_equal(least(trials, SEEN)["z"], SEEN)
    np.testing.assert_array_equal(least(passed_on, SEEN)["all"], [1, 0, 3, 0])
    assert least(trials, np.zeros(4, int)) == {}
    assert least(shared, 4) == {}  # each of the two may be 0 where the other is not


@pytest.fixture(scope="module")
def fit():
    return jn.fit(trials, {"y": SEEN}, "bbvi", progress=False)


def test_the_bound_is_finite_and_near_the_evidence(fit):
    """z - y is Poisson(5 · 0.6) whatever y, and y is Poisson(5 · 0.4)."""
    exact = stats.poisson(2.0).logpmf(SEEN).sum()
    assert exact - 0.05 < fit.elbo.value < exact + 3 * fit.elbo.se + 1e-3
    assert fit.check().verdict == "trusted"
    assert np.all(np.abs(fit.sample(4000)["z"].mean(axis=0) - SEEN - 3.0) < 0.15)


def test_a_saved_fit_keeps_the_least_values(fit, tmp_path):
    fit.save(tmp_path / "fit.npz")
    again = jn.load(tmp_path / "fit.npz").attach(trials, {"y": SEEN})
    np.testing.assert_array_equal(again.sample(50)["z"], fit.sample(50)["z"])


@pytest.mark.slow
def test_what_q_gives_mass_where_the_density_has_none_is_not_trusted():
    report = jn.fit(shared, {"y": 9}, "bbvi", progress=False).check()
    finite = {check.name: check for check in report.checks}["draws of q with finite density"]
    assert finite.value < 0.999
    assert not finite.passed
    assert report.verdict != "trusted"


def sharp(y):
    with numpyro.plate("sites", len(y)):
        z = numpyro.sample("z", dist.Poisson(5.0))
        numpyro.sample("y", dist.Normal(z, 0.2), obs=y)


@pytest.mark.parametrize(("model", "y"), [(sharp, np.array([7.0, 0.0, 3.0, 40.0])), (trials, SEEN)])
def test_rows_begin_where_their_own_mass_is(model, y):
    """A factor that is narrower than the distance between two counts would never come from one to the other."""
    target = native_target(model, {"y": y}, "double")
    with working("double"):
        z = starting_product(target, 0, {}).factors["z"]
        exact = y if model is sharp else y + 3.0
        assert np.all(np.abs(np.asarray(z.mean()) - exact) < 0.35)
