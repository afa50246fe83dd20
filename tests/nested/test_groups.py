"""Latents that are independent given the rest are found from the program, and nothing else is taken for them."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._auto.target import worthwhile
from jensen._model import build
from jensen._nested import find_groups
from jensen._program.on_host import HostProgram
from tests.nested import models

Y = np.linspace(-1, 1, models.GROUPS)
SLOPES = models.slopes_data()


@pytest.mark.parametrize(
    ("model", "data", "sites", "size"),
    [
        (models.counts, {"y": models.COUNTS}, ("u",), 1),
        (models.slopes, SLOPES, ("a", "c"), 2),
        (models.correlated, SLOPES, ("z",), 2),
        (models.crossed, {"g": SLOPES["g"], "y": SLOPES["y"]}, ("a",), 1),
    ],
)
def test_groups_are_found(model, data, sites, size):
    layout = find_groups(build(model, data, "double"))
    assert layout.sites == sites
    assert layout.members.shape == (models.GROUPS, size)


def test_groups_of_a_small_model_are_found_without_a_compiled_program(monkeypatch):
    target = build(models.counts, {"y": models.COUNTS}, "double")

    def compiled(*_):
        raise AssertionError("a program was compiled")

    monkeypatch.setattr(HostProgram, "__call__", compiled)
    assert find_groups(target).sites == ("u",)


@pytest.mark.parametrize("model", [models.chained, models.summed])
def test_latents_that_see_each_other_are_no_groups(model):
    assert find_groups(build(model, {"y": Y}, "double")) is None


def test_the_members_of_a_group_are_those_of_one_group():
    layout = find_groups(build(models.correlated, SLOPES, "double"))
    np.testing.assert_array_equal(layout.members, np.arange(2 * models.GROUPS).reshape(-1, 2))
    layout = find_groups(build(models.slopes, SLOPES, "double"))
    np.testing.assert_array_equal(layout.members[:, 1] - layout.members[:, 0], models.GROUPS)


def test_asked_for_where_there_are_none():
    with pytest.raises(jn.ModelError, match="independent given the rest"):
        jn.fit(models.chained, {"y": Y}, jn.nested())


def test_abilities_are_integrated_out_although_items_are_many():
    y = (np.random.default_rng(2).random((50, 24)) < 0.5).astype(int)
    found, why = worthwhile(build(models.answers, {"y": y}, "double"))
    assert why == ""
    assert [one.dim for one in found] == [48]
    # 25 rows, the prior among them: seven nodes are off by 50 / 25³ nats or so, all persons together
    assert found[0].model.per_axis == 7
    points = np.random.default_rng(3).normal(0.0, 0.4, (4, 48))
    np.testing.assert_allclose(found[0].value(points), found[0].finer().value(points), atol=3e-3)


def cells(state, age, y):
    b, s = numpyro.sample("b", dist.Normal(0, 1)), numpyro.sample("s", dist.HalfNormal(1).expand([2]).to_event(1))
    with numpyro.plate("states", 40):
        u = numpyro.sample("u", dist.Normal(0, s[0]))
    with numpyro.plate("ages", 5):
        v = numpyro.sample("v", dist.Normal(0, s[1]))
    numpyro.sample("y", dist.Bernoulli(logits=b + u[state] + v[age]), obs=y)


def test_the_levels_of_another_factor_make_a_field_of_groups():
    """Five levels are few, but with their scale they are a funnel: a field takes them, and the mean too."""
    state, age = np.arange(200) % 40, np.arange(200) // 40
    found, why = worthwhile(build(cells, {"state": state, "age": age, "y": (state + 2 * age) % 3 > 0}, "double"))
    assert not why
    assert [one.dim for one in found] == [2, 8]  # the scales; those, the mean and the ages


def sure(y):
    """Answers that are all but certain at most places: their slopes are told by few digits there."""
    mean = numpyro.sample("mean", dist.Normal(0, 1))
    with numpyro.plate("person", len(y)):
        ability = numpyro.sample("ability", dist.Normal(0, 1))
        numpyro.sample("y", dist.Bernoulli(logits=mean + 10.0 * ability), obs=y)


def test_rows_whose_slopes_are_faint_are_told_by_other_places():
    """At a logit of 24 a slope has lost all but six digits: no reason to take its row for one of two groups."""
    layout = find_groups(build(sure, {"y": np.ones(4000, int)}, "double"))
    assert layout is not None
    assert layout.groups == 4000
