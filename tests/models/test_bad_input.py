"""Bad input is refused before anything is compiled, in sentences that say what happened, where, and what to do."""

import functools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro import handlers
from numpyro.distributions import constraints

from jensen._base.errors import DataError, JensenError, ModelError, OptionError
from jensen._math.clock import programs_compiled
from jensen._model import LogDensity, build
from tests.models.zoo_models import eight_schools, masked_nan, mixture, normal_mean

Y = np.array([0.5, -1.0, 2.0])
SCHOOLS = {"sigma": np.ones(3), "y": Y}


def regression(x, y):
    w = numpyro.sample("w", dist.Normal(0, 1))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def discrete(y):
    k = numpyro.sample("k", dist.Poisson(3.0))
    numpyro.sample("y", dist.Normal(k, 1.0), obs=y)


def only_data(y):
    numpyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


def moving_support(y):
    low = numpyro.sample("low", dist.Normal(0, 1))
    numpyro.sample("x", dist.Uniform(low, 5.0))
    numpyro.sample("y", dist.Normal(low, 1.0), obs=y)


def with_param(y):
    scale = numpyro.param("scale", 1.0, constraint=constraints.positive)
    mu = numpyro.sample("mu", dist.Normal(0, scale))
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def subsampled(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", 3, subsample_size=2) as index:
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y[index])


def broken(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    shifted = y + jnp.ones(7)  # the user's mistake
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=shifted)


def branching(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    if mu > 0:
        mu = mu * 2
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def twice(y):
    numpyro.sample("mu", dist.Normal(0, 1))
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def column_mean(x, y):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([1]).to_event(1))
    numpyro.sample("y", dist.Normal(x * w, 1.0), obs=y)


def numpy_log_density(z):
    return float(np.sum(np.asarray(z["x"]) ** 2))


CASES = {
    "unknown key": (
        eight_schools,
        {**SCHOOLS, "sgima": Y},
        DataError,
        ["no argument 'sgima'", "Did you mean 'sigma'?"],
    ),
    "missing key": (eight_schools, {"y": Y}, DataError, ["needs 'sigma'", "The data hold ['y']"]),
    "missing key, wrapped model": (
        handlers.scale(eight_schools, scale=2.0),
        {"y": Y},
        DataError,
        ["needs 'sigma'"],
    ),
    "no data at all": (normal_mean, None, DataError, ["needs 'y'", "The data hold nothing"]),
    "not a mapping": (normal_mean, Y, DataError, ["must map", "ndarray", "a dict such as"]),
    "a series": (normal_mean, pd.Series(Y, name="y"), DataError, ["Series", "{'y': ...}"]),
    "text": (normal_mean, {"y": np.array(["a", "b"])}, DataError, ["'y' has dtype text", "Encode categories"]),
    "dates": (normal_mean, {"y": np.array(["2020-01-01"], "M8[D]")}, DataError, ["datetime64", "'y'"]),
    "complex": (normal_mean, {"y": Y + 1j}, DataError, ["complex128", "'y'"]),
    "objects": (
        normal_mean,
        {"y": np.array([object(), object()])},
        DataError,
        ["'y' holds an entry of type object", "first at row 0"],
    ),
    "ragged": (normal_mean, {"y": [[1.0], [1.0, 2.0]]}, DataError, ["'y' cannot be read as an array", "rectangular"]),
    "empty": (normal_mean, {"y": np.zeros((0,))}, DataError, ["'y' is empty", "shape (0,)"]),
    "empty list": (normal_mean, {"y": []}, DataError, ["'y' is empty"]),
    "empty column": (normal_mean, {"y": np.zeros((3, 0))}, DataError, ["'y' is empty", "shape (3, 0)"]),
    "not a number": (normal_mean, {"y": [1.0, np.nan, np.nan]}, DataError, ["2 missing values", "row 1", "mask"]),
    "not a number in a matrix": (
        normal_mean,
        {"y": np.array([[1.0, 2.0], [3.0, np.nan]])},
        DataError,
        ["'y' holds 1 missing values", "index (1, 1)"],
    ),
    "not a number in a covariate": (
        regression,
        {"x": [1.0, 2.0, np.nan], "y": Y},
        DataError,
        ["'x' holds 1 missing values", "row 2"],
    ),
    "not a number as a scalar": (
        lambda m: numpyro.sample("x", dist.Normal(m, 1.0)),
        {"m": float("nan")},
        DataError,
        ["'m' holds 1 missing", "the scalar"],
    ),
    "infinite": (normal_mean, {"y": [1.0, 2.0, np.inf]}, DataError, ["1 infinite values", "row 2"]),
    "infinite where masked": (masked_nan, {"y": [1.0, -np.inf]}, DataError, ["1 infinite values", "row 1"]),
    "shape mismatch": (regression, {"x": np.ones(4), "y": Y}, JensenError, ["(4,)", "(3,)", "shape"]),
    "shape mismatch at a site": (
        lambda y: numpyro.sample("y", dist.Normal(numpyro.sample("m", dist.Normal(jnp.zeros(4), 1.0)), 1.0), obs=y),
        {"y": Y},
        DataError,
        ["observed at 'y' have shape (3,)", "Normal has shape (4,)", "data key 'y'"],
    ),
    "silent broadcast of a column": (
        column_mean,
        {"x": np.ones((3, 1)), "y": Y},
        DataError,
        ["observed at 'y' have shape (3,)", "Normal has shape (3, 1)", "count every observation"],
    ),
    "silent broadcast of a row": (
        regression,
        {"x": np.ones(3), "y": Y[:, None]},
        DataError,
        ["observed at 'y' have shape (3, 1)", "Normal has shape (3,)", "silent broadcast"],
    ),
    "one value for a plate": (
        lambda y: _plate_of_three(y),
        {"y": np.array([1.0])},
        DataError,
        ["observed at 'y' have shape (1,)", "shape (3,)"],
    ),
    "discrete latent": (discrete, {"y": 1.0}, ModelError, ["'k' is discrete (Poisson)", "Sum it out by hand", "bbvi"]),
    "no latents": (only_data, {"y": Y}, ModelError, ["no latent sites", "Sites found: y"]),
    "nothing at all": (lambda: None, {}, ModelError, ["no latent sites", "Sites found: none"]),
    "moving support": (
        moving_support,
        {"y": 1.0},
        ModelError,
        ["support of 'x' (Uniform) depends on the latent 'low'", "x_frac"],
    ),
    "param": (with_param, {"y": Y}, ModelError, ["param site 'scale'", "numpyro.sample"]),
    "subsample": (subsampled, {"y": Y}, ModelError, ["'row' subsamples 2 of 3", "full data"]),
    "user's error": (
        broken,
        {"y": Y},
        ModelError,
        ["test_bad_input.py, line", "shifted = y + jnp.ones(7)", "Data shapes: y (3,)"],
    ),
    "branch on a latent": (
        branching,
        {"y": Y},
        ModelError,
        ["TracerBoolConversionError", "test_bad_input.py, line", "if mu > 0:"],
    ),
    "same site twice": (twice, {"y": Y}, ModelError, ["have one name", "`mu` duplicated", "test_bad_input.py, line"]),
    "key error inside": (lambda rows: rows["z"], {"rows": {"x": Y}}, ModelError, ["KeyError", "'z'"]),
    "not callable": ("eight_schools", SCHOOLS, ModelError, ["a function or a LogDensity", "not a str"]),
    "no model": (None, SCHOOLS, ModelError, ["not a NoneType"]),
    "array as a model": (Y, {}, ModelError, ["not a ndarray"]),
    "vector log density": (
        LogDensity(lambda z: -(z["x"] ** 2), {"x": 3}),
        {},
        ModelError,
        ["one number, but it has shape (3,)", "test_bad_input.py", "Sum over rows"],
    ),
    "integer log density": (
        LogDensity(lambda z: jnp.round(z["x"]).astype(int), {"x": ()}),
        {},
        ModelError,
        ["real float", "int"],
    ),
    "complex log density": (
        LogDensity(lambda z: z["x"] * 1j, {"x": ()}),
        {},
        ModelError,
        ["real float", "complex"],
    ),
    "log density is a tuple": (
        LogDensity(lambda z: (z["x"], z["x"]), {"x": ()}),
        {},
        ModelError,
        ["one number", "tuple"],
    ),
    "log density is nothing": (LogDensity(lambda z: None, {"x": ()}), {}, ModelError, ["one number", "NoneType"]),
    "numpy log density": (
        LogDensity(numpy_log_density, {"x": 3}),
        {},
        ModelError,
        ["concrete numbers", "numpy_log_density", "jax.numpy"],
    ),
    "log density without a derivative": (
        LogDensity(lambda z: _callback(z["x"]), {"x": ()}),
        {},
        ModelError,
        ["not differentiable", "custom derivative"],
    ),
    "log density with a missing site": (
        LogDensity(lambda z: -(z["y"] ** 2), {"x": ()}),
        {},
        ModelError,
        ["KeyError", "'y'", "test_bad_input.py, line"],
    ),
    "log density without sites": (LogDensity(lambda z: 0.0, {}), {}, ModelError, ["no sites"]),
    "support of an unknown site": (
        LogDensity(lambda z: -z["rate"], {"rate": ()}, {"rte": constraints.positive}),
        {},
        OptionError,
        ["'rte', which is no site", "Did you mean 'rate'?"],
    ),
    "log density with unknown data": (
        LogDensity(lambda z, xs: -(z["x"] ** 2), {"x": ()}),
        {"x": Y},
        DataError,
        ["no argument 'x'", "Did you mean 'xs'?"],
    ),
    "log density with missing data": (
        LogDensity(lambda z, xs: -(z["x"] ** 2), {"x": ()}),
        {},
        DataError,
        ["needs 'xs'"],
    ),
}


def _plate_of_three(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("row", 3):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def _callback(x):
    import jax

    return jax.pure_callback(lambda v: np.asarray(v), jax.ShapeDtypeStruct((), x.dtype), x)


@pytest.mark.parametrize("case", CASES)
def test_refused_with_a_message_before_compilation(case):
    model, data, kind, parts = CASES[case]
    before = programs_compiled()
    with pytest.raises(kind) as caught:
        build(model, data, "double")
    assert programs_compiled() == before
    for part in parts:
        assert part in str(caught.value)
    assert isinstance(caught.value, (ValueError, JensenError))


def test_the_users_line_is_the_innermost_of_theirs():
    def helper(y):
        raise RuntimeError("no such thing")

    def model(y):
        numpyro.sample("mu", dist.Normal(0, 1))
        helper(y)

    with pytest.raises(ModelError) as caught:
        build(model, {"y": Y}, "double")
    assert "RuntimeError: no such thing" in caught.value.what
    assert 'raise RuntimeError("no such thing")' in caught.value.where
    assert isinstance(caught.value.__cause__, RuntimeError)


ACCEPTED = {
    "masked missing values": (masked_nan, {"y": [1.0, np.nan]}),
    "mask made with numpy": (
        lambda y: _masked(y, ~np.isnan(y)),
        {"y": np.array([1.0, np.nan, 3.0])},
    ),
    "masked missing values in nested data": (
        lambda rows: _masked(rows["y"], ~jnp.isnan(rows["y"])),
        {"rows": {"y": np.array([1.0, np.nan])}},
    ),
    "a list": (normal_mean, {"y": [1, 2, 3]}),
    "a series": (normal_mean, {"y": pd.Series(Y)}),
    "a boolean array": (normal_mean, {"y": np.array([True, False])}),
    "objects that are numbers": (normal_mean, {"y": np.array([1, 2.5], dtype=object)}),
    "float32": (normal_mean, {"y": Y.astype(np.float32)}),
    "a jax array": (normal_mean, {"y": jnp.asarray([1.0, 2.0])}),
    "a partial": (functools.partial(regression, x=np.ones(3)), {"y": Y}),
    "no arguments": (lambda: numpyro.sample("x", dist.Normal(0, 1)), None),
    "more rows than the distribution": (lambda y: _no_plate(y), {"y": Y}),
}


def _masked(y, mask):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with handlers.mask(mask=mask):
        numpyro.sample("y", dist.Normal(mu, jnp.ones(len(y))), obs=y)


def _no_plate(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case):
    model, data = ACCEPTED[case]
    before = programs_compiled()
    target = build(model, data, "double")
    assert programs_compiled() == before
    assert np.isfinite(target.value(np.zeros((1, target.dim)))).all()


def test_missing_values_in_nested_data_are_found():
    with pytest.raises(DataError, match=r"'rows\.x' holds 1 missing values.*row 1"):
        build(
            lambda rows: regression(rows["x"], rows["y"]),
            {"rows": {"x": np.array([1.0, np.nan, 0.0]), "y": Y}},
            "double",
        )


def test_missing_values_are_refused_where_only_one_of_two_uses_is_masked():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with handlers.mask(mask=~jnp.isnan(y)):
            numpyro.sample("first", dist.Normal(mu, jnp.ones(2)), obs=y)
        numpyro.sample("second", dist.Normal(mu, jnp.ones(2)), obs=y)

    with pytest.raises(DataError, match="'y' holds 1 missing"):
        build(model, {"y": [1.0, np.nan]}, "double")
    with pytest.raises(DataError, match="missing"):
        build(mixture, {"y": [1.0, np.nan]}, "double")


def test_a_message_is_three_sentences_kept_apart():
    with pytest.raises(DataError) as caught:
        build(normal_mean, {"y": [1.0, np.nan]}, "double")
    error = caught.value
    assert error.what == "'y' holds 1 missing values (NaN)."
    assert error.where == "Data key: 'y', first at row 1."
    assert "mask" in error.remedy
    assert str(error) == f"{error.what} {error.where} {error.remedy}"


def test_the_check_for_compilation_can_fail():
    before = programs_compiled()
    build(normal_mean, {"y": np.arange(11.0)}, "double").value(np.zeros((1, 1)))
    assert programs_compiled() > before
