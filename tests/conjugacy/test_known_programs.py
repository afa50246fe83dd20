"""An analysis is found again only for a program that does the same, and new data go through every check."""

import types
from dataclasses import replace

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._base.errors import DataError
from jensen._conjugate.algebra import build_conjugate
from jensen._conjugate.algebra import model as derivation
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.coordinate.weighing import Weigher, _weighed, chosen_weigher
from jensen._program import identity

SCALE = 1.0
OPTIONS = {"rate": [1.0, 2.0]}


def counts(y):
    rate = numpyro.sample("rate", dist.Gamma(OPTIONS["rate"][0], SCALE))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def exact(y, shape, scale):
    return (shape + y.sum()) / (scale + len(y))


@pytest.fixture
def traces(monkeypatch):
    """How often something was analysed."""
    seen = []
    analysed = derivation.analysed
    monkeypatch.setattr(derivation, "analysed", lambda *a, **k: seen.append(1) or analysed(*a, **k))
    return seen


def test_other_data_and_other_values_outside(traces, monkeypatch):
    y = np.array([1, 0, 4, 2, 2, 3])
    for data in (y, y + 2):
        assert CAVI().fit_conjugate(counts, {"y": data}).means()["rate"] == pytest.approx(exact(data, 1.0, 1.0))
    assert len(traces) == 1
    with pytest.raises(DataError, match="1 values of 'y' lie outside"):
        CAVI().fit_conjugate(counts, {"y": y - np.array([2, 0, 0, 0, 0, 0])})
    assert len(traces) == 1
    monkeypatch.setitem(globals(), "SCALE", 3.0)  # what the function sees has changed, the function has not
    assert CAVI().fit_conjugate(counts, {"y": y}).means()["rate"] == pytest.approx(exact(y, 1.0, 3.0))
    monkeypatch.setitem(OPTIONS, "rate", [5.0, 2.0])
    assert CAVI().fit_conjugate(counts, {"y": y}).means()["rate"] == pytest.approx(exact(y, 5.0, 3.0))
    assert len(traces) == 3


def test_closures_and_arguments_that_are_fixed(traces):
    def make(shape):
        def model(y, groups):
            with numpyro.plate("group", groups):
                rate = numpyro.sample("rate", dist.Gamma(shape, 1.0))
            with numpyro.plate("row", len(y)):
                numpyro.sample("y", dist.Poisson(rate[np.arange(len(y)) % groups]), obs=y)

        return model

    y = np.array([1, 0, 4, 2, 2, 3])
    for shape, groups, fresh in ((1.0, 2, 1), (1.0, 2, 0), (2.0, 2, 1), (1.0, 3, 1), (1.0, 2, 0)):
        before = len(traces)
        found = CAVI().fit_conjugate(make(shape), {"y": y, "groups": groups}).means()["rate"]
        np.testing.assert_allclose(found, [exact(y[i::groups], shape, 1.0) for i in range(groups)])
        assert len(traces) - before == fresh


class Holder:
    """Something whose content cannot be told."""

    value = 1.0


def test_what_has_no_key():
    held, module = Holder(), types.ModuleType("settings")
    module.__file__, module.PRIOR, module.OTHER = __file__, 1.0, 1.0  # type: ignore[attr-defined]

    def opaque(y):
        return held.value

    def read(y):
        return np.exp(module.PRIOR)

    def calls(y):
        return read(y)

    assert identity.program_key(opaque) is None
    assert identity.program_key(numpyro.handlers.seed(counts, 0)) is None
    keys = [identity.program_key(calls)]
    module.OTHER = 2.0  # type: ignore[attr-defined]
    assert identity.program_key(calls) == keys[0] is not None
    module.PRIOR = 2.0  # type: ignore[attr-defined]
    assert identity.program_key(calls) != keys[0]
    with numpyro.handlers.block():
        assert identity.program_key(calls) is None


def test_programs_hold_no_data():
    y = np.arange(3000.0)

    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    found = build_conjugate(model, {"y": y}, row_precision="double")
    CAVI().fit_conjugate(model, {"y": y})
    programs = found.layout.programs
    assert programs, "the second fit has shared the layout of the first"
    assert all(held.bare.energy.arrays == () for held in programs.values())


def test_weights_of_a_second_fit_take_the_programs_of_the_first_and_its_own_data():
    rng = np.random.default_rng(0)

    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 5).expand([2]))
        with numpyro.plate("row", len(y)):
            c = numpyro.sample("c", dist.Bernoulli(0.5))
            numpyro.sample("y", dist.Normal(mu[c], 1.0), obs=y)

    fits = [jn.fit(model, {"y": rng.normal(size=20) + shift}, "cavi", progress=False) for shift in (0.0, 3.0)]
    first, second = (chosen_weigher(fit.outcome.q) for fit in fits)
    draws = second.draw(second.way.q, 16, 0)
    first(draws, 16)
    (made,) = (
        program for name, program in first.way.programs.items() if isinstance(name, tuple) and name[0] is _weighed
    )
    traces = dict(made._known)
    found = second(draws, 16)
    assert made._known == traces
    alone = Weigher(second.solution, replace(second.way, programs={}))
    for value, expected in zip(found, alone(draws, 16), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert not np.allclose(found[0], first(draws, 16)[0])
