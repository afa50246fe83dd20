"""What a fit may cost: stages that do not begin, and fits that say what they will take."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

import jensen as jn
from jensen._core import Certificate
from jensen._families import FullRank
from jensen._gaussian import account, mode_coverage, richer_families, trajectories
from jensen._math.reckoning import Price
from jensen._model import LogDensity, build


@pytest.fixture(scope="module")
def target():
    return build(LogDensity(lambda z: -0.5 * jnp.sum(z["x"] ** 2), {"x": np.zeros(3)}), None, "double")


def done(run):
    try:
        while True:
            next(run)
    except StopIteration as stop:
        return stop.value


def test_what_has_been_spent_counts(target):
    free = account.left(target)
    assert trajectories.affordable(target)
    target.gradients += 10_000_000
    try:
        assert account.left(target) < 0.0 < free
        assert account.for_last(target) == account.of_sampling(target)
        around, found = FullRank.from_factor(np.zeros(3), np.eye(3)), None
        assert done(richer_families.mixtures(target, around, found, 0, eager=False)) == ([], Certificate())
    finally:
        target.gradients -= 10_000_000


def test_no_mixture_over_modes_that_cannot_be_counted(target, monkeypatch):
    monkeypatch.setattr(mode_coverage, "all_modes", lambda *_: ((), 0.9))
    monkeypatch.setattr(richer_families, "has_other_modes", lambda _: True)
    tried, missed = done(richer_families.mixtures(target, FullRank.from_factor(np.zeros(3), np.eye(3)), object(), 0))  # type: ignore[arg-type]
    assert tried == []
    assert missed.unseen_modes == 0.9


def test_a_long_fit_says_so_before_it_begins(target):
    with pytest.warns(jn.LongFitWarning, match="30 minutes of processor time"):
        account.announce(1800.0, target, "of 3 coordinates")


def test_a_short_one_says_nothing(target, recwarn):
    account.announce(60.0, target, "of 3 coordinates")
    assert not recwarn.list


def test_a_field_out_of_reach_of_gradients_is_taken():
    dear = types.SimpleNamespace(price=Price(1e-4, 1.0), wide=2)
    assert account.of_field(dear) < account.of_gradients(dear)  # type: ignore[arg-type]
