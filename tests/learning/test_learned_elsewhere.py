"""Parameters learned under black-box methods, and what an interrupted fit has learned."""

import numpy as np
import pytest

import jensen as jn
from tests.learning import models as m

EXACT = m.EFFECTS.mean(), np.sqrt(m.EFFECTS.var() - 0.49)


def after(count, phase):
    seen = []

    def stop(item):
        seen.append(item.phase)
        if seen.count(phase) == count:
            raise KeyboardInterrupt

    return stop


@pytest.mark.slow
def test_black_box_vi_moves_parameters_along():
    fit = jn.fit(m.groups, m.SCHOOLS, "bbvi", learn=["mu", "tau"])
    assert fit.converged
    assert fit.estimates["mu"] == pytest.approx(EXACT[0], abs=0.05)
    assert fit.estimates["tau"] == pytest.approx(EXACT[1], abs=0.05)
    assert fit.check().verdict == "trusted"
    assert set(fit.sample(3)) == {"theta"}
    assert fit.predict(num_draws=2)["y"].shape == (2, 8)


def test_em_by_minibatches_reaches_the_same_maximum():
    y = np.random.default_rng(0).normal(1.0, 2.1, size=400)
    data = {"y": y, "sigma": np.full(400, 0.7), "mu": 0.0, "tau": 1.0}
    fit = jn.fit(m.groups, data, jn.svi(batch_size=50), learn=["mu", "tau"])
    assert fit.converged
    assert fit.estimates["mu"] == pytest.approx(y.mean(), abs=2e-3)
    assert fit.estimates["tau"] == pytest.approx(np.sqrt(y.var() - 0.49), abs=2e-3)
    assert "EM by minibatches" in fit.status
    assert fit.check().verdict == "trusted"


@pytest.mark.slow
def test_a_mixture_by_minibatches():
    full, batches = (jn.fit(m.mixture, {"x": m.CLUSTERS}, method) for method in ("cavi", jn.svi(batch_size=100)))
    assert batches.elbo.value == pytest.approx(full.elbo.value, abs=1e-2)


@pytest.mark.slow
def test_hierarchical_vi_does_too():
    method = jn.hvm(prior="mean_field", num_starts=1, max_steps=8000)
    fit = jn.fit(m.groups, m.SCHOOLS, method, learn=["mu", "tau"])
    assert fit.estimates["mu"] == pytest.approx(EXACT[0], abs=0.1)
    assert fit.estimates["tau"] == pytest.approx(EXACT[1], abs=0.1)


HVM = jn.hvm(prior="mean_field", num_starts=1)


@pytest.mark.parametrize(
    ("method", "phase"), [("cavi", "ascent"), ("bbvi", "ascent"), pytest.param(HVM, "ascent", marks=pytest.mark.slow)]
)
def test_interrupted_it_keeps_what_it_has_learned(method, phase):
    fit = jn.fit(m.groups, m.SCHOOLS, method, learn=["mu", "tau"], progress=after(2, phase))
    assert "Interrupted by the user" in fit.status
    assert not fit.converged
    assert abs(fit.estimates["tau"] - EXACT[1]) < 0.2
    assert np.isfinite(fit.elbo.value)


def test_variational_em_interrupted():
    data = {"x": m.DESIGN, "y": m.OUTCOME, "tau": 1.0}
    fit = jn.fit(m.logistic, data, learn=["tau"], progress=after(2, "parameters"))
    assert "Interrupted by the user in phase 'parameters'" in fit.status
    assert fit.estimates["tau"] != 1.0
    assert set(fit.sample(3)) == {"w"}
