"""Over-relaxed sweeps: the same optimum in fewer sweeps, and a step that lowers the bound is taken back."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from jensen._conjugate.algebra import build_conjugate
from jensen._conjugate.coordinate import relaxation
from jensen._conjugate.coordinate.plated import PlatedAscent, ascent_for
from jensen._conjugate.coordinate.relaxation import Climb, StepLength
from jensen._math.precision import working


def slow(y):
    """Two latents of which only the sum is well known: coordinate ascent converges at a rate near one."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(a + b, 1.0), obs=y)


def mixture(y):
    with numpyro.plate("component", 3):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
    with numpyro.plate("row", len(y)):
        c = numpyro.sample("c", dist.Categorical(np.full(3, 1 / 3)))
        numpyro.sample("y", dist.Normal(mu[c], 1.0), obs=y)


def climbed(ascent, start, most):
    climb, state = Climb(ascent, 1e-12), start
    while state.total < most and not climb.settled(state):
        state = climb.advance(state, most - state.total)
    return state


@pytest.mark.parametrize("streamed", [False, True])
def test_same_optimum_in_fewer_sweeps(streamed, monkeypatch):
    rng = np.random.default_rng(0)
    y = rng.normal([[-1.2], [0.0], [1.2]], 1.0, (3, 2000)).ravel() if streamed else rng.normal(1.0, 1.0, 400)
    with working("double"):
        ascent = ascent_for(build_conjugate(mixture if streamed else slow, {"y": y}))
        assert isinstance(ascent, PlatedAscent) == streamed
        start = ascent.starts(np.random.default_rng(1), 1, 5)[0]
        fast = climbed(ascent, start, 5000)
        monkeypatch.setattr(relaxation, "WAIT", 10**9)
        plain = climbed(ascent, start, 5000)
    assert fast.elbo == pytest.approx(plain.elbo, abs=1e-6 * abs(plain.elbo))
    assert fast.total < 0.7 * plain.total
    assert np.all(np.diff(fast.history) >= -ascent.noise(fast.elbo))


def test_a_step_that_lowers_the_bound_is_taken_back(monkeypatch):
    class Wild(StepLength):
        def beyond(self, before, after):
            self.length = 1e4
            far = {k: np.asarray(v) + 1e4 * (k == "z") for k, v in after["a"].items()}
            return {**after, "a": far}

    monkeypatch.setattr(relaxation, "WAIT", 0)
    y = np.random.default_rng(0).normal(1.0, 1.0, 400)
    with working("double"):
        ascent = ascent_for(build_conjugate(slow, {"y": y}))
        climb = Climb(ascent, 1e-12)
        climb.step = Wild()
        state = ascent.starts(np.random.default_rng(1), 1, 5)[0]
        first = climb.advance(state, 1000)
        kept = climb.advance(first, 1000)
    assert kept.elbo == first.elbo
    assert kept.history == first.history
    assert kept.total > first.total, "the sweeps that were thrown away are counted"
    assert climb.step.length == pytest.approx(100.0), "half as far, in logarithms"
