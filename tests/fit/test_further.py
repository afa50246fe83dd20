"""What an algorithm would try next is tried where the verdict is untrusted, and there alone."""

from dataclasses import replace
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._core import AbstractAlgorithm, Certificate, Outcome, Progress
from jensen._families import Chains, FullRank
from jensen._gaussian.chains_answer import ChainsAnswer
from jensen._gaussian.trajectories import moved
from jensen._model import build
from tests.runs import ended


def plain():
    numpyro.sample("x", dist.Normal(0.0, 1.0).expand([3]).to_event(1))


def gaussian(width):
    return FullRank.from_factor(np.zeros(3), width * np.eye(3))


class Two(AbstractAlgorithm):
    """A Gaussian of some width first, the right one later; `interrupted` while that is looked for."""

    name: ClassVar[str] = "two"
    width: float = 1.0
    interrupted: bool = False

    def prepare(self, model, data, precision):
        return build(model, data, precision)

    def run(self, target, seed):
        yield Progress("first", 0, -1.0, gaussian(self.width))
        return Outcome(gaussian(self.width), True, "First.", further=self.more)

    def more(self, outcome):
        assert outcome.further is None
        yield Progress("second", 0, 0.0, gaussian(1.0))
        if self.interrupted:
            raise KeyboardInterrupt
        return replace(outcome, q=gaussian(1.0), status="Second.")


@pytest.mark.parametrize(("width", "status"), [(0.05, "Second."), (1.0, "First.")])
def test_it_is_tried_where_the_verdict_is_untrusted(width, status):
    fit = jn.fit(plain, {}, Two(width))
    assert fit.status == status
    assert fit.check().verdict == "trusted"
    assert [row["phase"] for row in fit.history] == ["first", "second"][: 1 + (width < 1.0)]


def test_an_interruption_of_it_leaves_the_fit_that_there_was():
    fit = jn.fit(plain, {}, Two(0.05, True))
    assert fit.status == "First. The user interrupted the search for something better."
    assert fit.check().verdict == "untrusted"
    assert fit.q.scales() == pytest.approx(0.05)


def test_it_is_not_begun_where_the_budget_is_spent():
    fit = jn.fit(plain, {}, Two(0.05), budget=1e9)
    assert fit.status == "Second."
    assert jn.fit(plain, {}, Two(0.05), budget=1e-9).status.startswith("Stopped by the budget")


def skewed(size):
    """Logarithms of gamma variables: a Gaussian leaves some hundredths of a nat in each."""
    u = numpyro.sample("u", dist.Normal(0.0, 5.0).expand([size]).to_event(1))
    numpyro.factor("gamma", (3.0 * u - np.e**u).sum())


def test_a_usable_gaussian_is_no_reason_for_a_flow():
    """In 22 coordinates it takes seconds where flows take a minute; corrected draws are right: E[u] = ψ(3)."""
    fit = jn.fit(skewed, {"size": 22})
    assert fit.check().verdict == "usable"
    assert [row["family"] for row in fit.outcome.stages if row["kept"]] == ["full rank"]
    assert fit.timings["gradients"] < 50_000
    assert_right(fit.sample(4000)["u"], mean_within=0.15)


def assert_right(draws, mean_within):
    prior = np.linspace(-6.0, 6.0, 4001)
    mass = np.exp(3.0 * prior - np.exp(prior) - 0.5 * (prior / 5.0) ** 2)
    mass /= mass.sum()
    mean = (mass * prior).sum()
    sd = np.sqrt((mass * (prior - mean) ** 2).sum())
    assert np.abs(draws.mean(axis=0) - mean).max() < mean_within * sd
    assert np.abs(np.log(draws.std(axis=0) / sd)).max() < 0.12


def test_in_many_skewed_coordinates_draws_of_the_gaussian_are_moved():
    """In 80 coordinates no number of weighted draws tells the posterior, and trajectories from q take a second."""
    fit = jn.fit(skewed, {"size": 80})
    assert "Hamiltonian trajectories" in fit.status
    assert fit.check().verdict == "trusted"
    assert any(check.name == "evidence in other modes" for check in fit.check().checks)
    assert_right(fit.sample(4000)["u"], mean_within=0.12)


def test_trajectories_that_do_not_agree_leave_the_fit_as_it_was():
    """Two modes, far apart: chains that begin at draws of a Gaussian over both stay where they are."""
    both = jn.LogDensity(
        lambda z: jnp.logaddexp(*(-0.5 * ((z["x"] - at) ** 2).sum() for at in (8.0, -8.0))), {"x": (2,)}
    )
    target, outcome = build(both, {}, "double"), Outcome(gaussian(1.0), True, "First.")
    wide = FullRank.from_factor(np.zeros(2), 8.0 * np.eye(2))
    left = ended(moved(target, wide, 0, outcome))
    assert left.q is outcome.q
    assert "Tried without gain" in left.status


def test_moved_draws_whose_variance_is_not_finite_are_not_trusted():
    """Chains agree on what they have seen; log-densities of Student-t variables with 1.5 degrees have no variance."""
    rng = np.random.default_rng(1)
    draws = rng.standard_t(1.5, size=(4, 400, 3))
    certificate = Certificate(share_elsewhere=0.0)
    chains = Chains(draws, np.asarray(0), np.zeros(3), np.ones(3))
    heavy = jn.LogDensity(lambda z: (-1.25 * jnp.log1p(z["x"] ** 2 / 1.5)).sum(), {"x": (3,)})
    answer = ChainsAnswer(build(heavy, {}, "double"), Outcome(chains, True, "", certificate), 0)
    pool = answer.settled_pool(0)
    report = answer.judge(pool, answer.drawn(pool), 0)
    assert report.verdict == "untrusted"
    assert any("hangs on single draws" in reason for reason in report.reasons)
