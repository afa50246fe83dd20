"""Which scalars a plot shows."""

from types import SimpleNamespace

import numpy as np
import pytest

from jensen import OptionError
from jensen._report.labels import choose


def fit_with(**shapes):
    sites = [SimpleNamespace(name=name) for name in shapes]
    rng = np.random.default_rng(0)
    draws = {name: rng.normal(size=(10, *shape)) for name, shape in shapes.items()}
    return SimpleNamespace(structure=SimpleNamespace(drawn=sites[:-1], deterministic=sites[-1:])), draws


def test_everyone_gets_one_before_anyone_gets_more():
    fit, draws = fit_with(mu=(), z=(5,), L=(2, 2), theta=(5,))
    assert list(choose(fit, draws, None, 5).draws) == ["mu", "z[0]", "z[1]", "L[0,0]", "theta[0]"]
    everything = choose(fit, draws, None, 100)
    assert (len(everything.draws), everything.left, everything.note) == (15, 0, "")
    assert choose(fit, draws, None, 12).note == "12 of 15 scalars"
    np.testing.assert_array_equal(everything.draws["L[1,0]"], draws["L"][:, 1, 0])


def test_chosen_by_name_and_constants_left_out():
    fit, draws = fit_with(mu=(), L=(2, 2), theta=(3,))
    draws["L"][:, 0, 1] = 0.0
    assert list(choose(fit, draws, ["theta", "L"], 100).draws) == [
        *("theta[0]", "theta[1]", "theta[2]"),
        *("L[0,0]", "L[1,0]", "L[1,1]"),
    ]
    with pytest.raises(OptionError, match=r"no site 'thetta'.*Did you mean 'theta'"):
        choose(fit, draws, ["thetta"], 3)
