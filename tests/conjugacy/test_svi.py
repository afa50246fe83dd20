"""Stochastic variational inference against coordinate ascent."""

import itertools

import jax
import numpy as np
import pytest

from jensen._errors import ModelError, OptionError
from jensen.algorithms.cavi import CAVI
from jensen.algorithms.coordinate.plated import PlatedAscent
from jensen.algorithms.coordinate.starts import random_start
from jensen.algorithms.svi import SVI
from jensen.models.conjugacy import build_conjugate
from jensen.models.conjugacy.plates import split

from .test_plates import CASES, CENTERS
from .zoo import ZOO


@pytest.fixture
def small():
    """Six rows of the unit-variance mixture, and a state after one sweep."""
    fn, data = ZOO["unit_mixture"]
    model = build_conjugate(fn, {**data, "x": data["x"][:6]})
    ascent = PlatedAscent(split(model, "row"))
    return ascent, ascent.begin(random_start(model, np.random.default_rng(4), False))


def test_full_batch_and_unit_rate_is_one_sweep(small):
    ascent, state = small
    swept = ascent.advance(state, 1)
    _, naturals, inside = ascent.step(state.moments, state.naturals, ascent.model.energy.arrays, 6, 1.0)
    assert np.all(inside)
    for found, expected in zip(jax.tree.leaves(naturals), jax.tree.leaves(swept.naturals), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_mean_over_all_minibatches_is_the_full_natural_gradient(small):
    """All 15 pairs of six rows: the steps average to the full one, as only one global block moves."""
    ascent, state = small
    arrays = ascent.model.energy.arrays
    steps = []
    for pair in itertools.combinations(range(6), 2):
        _, naturals, _ = ascent.step(state.moments, state.naturals, ascent.chosen(arrays, np.array(pair)), 2, 0.3)
        steps.append(naturals["mu"])
    full = ascent.step(state.moments, state.naturals, arrays, 6, 0.3)[1]["mu"]
    for key in full:
        np.testing.assert_allclose(np.mean([s[key] for s in steps], 0), full[key], rtol=1e-12)


@pytest.mark.parametrize("name", ["diagonal_mixture", pytest.param("latent_classes", marks=pytest.mark.slow)])
def test_cold_start_comes_within_a_milli_nat_per_row(name):
    data = CASES[name][1]
    batch = CAVI(tolerance=1e-7).fit_conjugate(ZOO[name][0], data)
    fit = SVI(batch_size=250).fit_conjugate(ZOO[name][0], data)
    assert fit.converged
    assert fit.elbo <= batch.elbo + 1e-3 * fit.model.rows
    assert fit.elbo > batch.elbo - 1e-3 * fit.model.rows
    if name == "diagonal_mixture":
        for center in CENTERS:
            assert np.linalg.norm(fit.means()["mu"] - center, axis=-1).min() < 0.2


def test_same_seed_same_bits():
    data = CASES["stick_breaking"][1]
    first, second = (SVI(max_epochs=2).fit_conjugate(ZOO["stick_breaking"][0], data, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.history, second.history)


def test_batch_larger_than_the_plate_is_refused():
    with pytest.raises(OptionError, match="8 rows"):
        SVI(batch_size=9).fit_conjugate(*ZOO["unit_mixture"])


def test_model_without_local_latents_is_refused():
    with pytest.raises(ModelError, match="cavi"):
        SVI(batch_size=2).fit_conjugate(*ZOO["normal_gamma"])


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"forgetting": 0.5}, {"delay": -1.0}, {"tolerance": 0.0}])
def test_options_out_of_range(options):
    with pytest.raises(OptionError):
        SVI(**options)
