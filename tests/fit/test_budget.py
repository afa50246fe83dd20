"""A fit that may take so many seconds: it ends with the best approximation so far, and says so."""

import math

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._core import Progress
from jensen._fit.loop import _best

X = np.random.default_rng(0).normal(2.0, 3.0, 20)


def normal(x):
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    tau = numpyro.sample("tau", dist.Gamma(1, 1))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(mu, tau**-0.5), obs=x)


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self):
        self.seconds = 0.0

    def read(self):
        self.seconds += 1.0
        return {"total": self.seconds, "compile": 0.0, "run": self.seconds, "programs": 0.0}


@pytest.fixture
def ticking(monkeypatch):
    monkeypatch.setattr("jensen._fit.fit.Stopwatch", Clock)


CAVI = jn.cavi(tolerance=1e-300, max_sweeps=50)


def test_it_ends_with_what_there_is_and_says_so(ticking):
    fit = jn.fit(normal, {"x": X}, CAVI, budget=3.0)
    assert fit.status.startswith("Stopped by the budget of 3 s after 4.0 s in phase 'ascent', step 4; ")
    assert [row["seconds"] for row in fit.history] == [1.0, 2.0, 3.0, 4.0]
    assert fit.elbo.value == pytest.approx(fit.history[-1]["bound"], abs=1e-12)
    report = fit.check()
    assert not fit.converged
    assert report.verdict != "trusted"
    assert any("Stopped by the budget" in reason for reason in report.reasons)
    assert set(fit.sample(3, raw=True)) == {"mu", "tau"}


def test_too_little_for_anything_gives_the_first_approximation(ticking):
    fit = jn.fit(normal, {"x": X}, CAVI, budget=1e-6)
    assert len(fit.history) == 1
    searched = jn.fit(normal, {"x": X}, "laplace", budget=1e-6)  # climbs have none to show
    assert np.isfinite(searched.elbo.value)


def test_enough_changes_nothing(ticking):
    within, without = (jn.fit(normal, {"x": X}, "cavi", budget=budget) for budget in (1e6, None))
    assert within.status == without.status
    assert within.elbo == without.elbo


@pytest.mark.parametrize("budget", [0, -1.0, math.nan, math.inf, "20", True])
def test_it_is_a_number_of_seconds(budget):
    with pytest.raises(jn.OptionError, match="budget must be a finite number above 0"):
        jn.fit(normal, {"x": X}, budget=budget)


def test_nuts_that_finishes_a_fit_has_what_is_left(ticking, monkeypatch):
    given = {}
    monkeypatch.setattr(jn.Fit, "check", lambda self: type("Report", (), {"verdict": "untrusted"}))
    monkeypatch.setattr(jn.Fit, "refine", lambda self, **options: given.update(options) or self)
    fit = jn.fit(normal, {"x": X}, jn.auto(finish=True), budget=1000.0)
    assert given["seconds"] == 1000.0 - fit.timings["total"] - 1.0


@pytest.mark.parametrize(
    ("reports", "wanted"),
    [
        ([("ascent", -10.0), ("mixture", -12.0)], "ascent"),
        ([("ascent", -10.0), ("mixture", -10.05)], "mixture"),  # a bound by draws, as good as equal
        ([("ascent", -10.0), ("mode", -3.0)], "ascent"),  # a density at a point
        ([("mode", -3.0), ("curvature", -9.0)], "curvature"),
        ([("ascent", -10.0), ("NUTS", math.nan)], "NUTS"),
    ],
)
def test_the_best_is_that_of_the_highest_bound(reports, wanted):
    found = {phase: Progress(phase, 0, bound, object()) for phase, bound in reports}
    assert _best(found).phase == wanted
