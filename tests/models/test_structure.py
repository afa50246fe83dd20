"""Structure: sites, plates, axis names, parents, data keys and masks, each against an answer written by hand."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints

from jensen._math.clock import programs_compiled
from jensen._model import Plate, build
from jensen._model.build import with_dependencies
from jensen._program import analysis
from tests.zoo import MODELS


def structure(name):
    return with_dependencies(build(MODELS[name].model, MODELS[name].data, "double"))


PARENTS = {
    "eight_schools": {"mu": (), "tau": (), "theta": ("mu", "tau"), "y": ("theta",)},
    "nested_plates": {"mu": (), "a": ("mu",), "b": ("a",), "y": ("b",)},
    "crossed_plates": {"a": (), "b": (), "y": ("a", "b")},
    "deterministic_sites": {
        "mu": (),
        "tau": (),
        "log_tau": ("tau",),
        "z": (),
        "theta": ("mu", "tau", "z"),
        "y": ("mu", "tau", "z"),
    },
    "factor_site": {"w": (), "smooth": ("w",), "per_row": ("w",)},
    "observed_first": {"x": (), "slope": (), "y": ("slope",)},
    "size_from_data": {"a": (), "y": ("a",)},
    "mixture": {"weights": (), "means": (), "y": ("weights", "means")},
    "whole_scaled": {"mu": (), "tau": (), "theta": ("mu", "tau"), "y": ("theta",)},
    "conditioned": {"mu": (), "tau": (), "theta": ("mu", "tau"), "y": ("theta",)},
    "masked_nan": {"mu": (), "y": ("mu",)},
}


@pytest.mark.parametrize("name", PARENTS)
def test_parents(name):
    assert {site.name: site.parents for site in structure(name).sites.values()} == PARENTS[name]


def test_parents_through_a_scan_are_those_of_the_whole_loop():
    """A loop is followed as one operation: what it computes depends on everything that it reads."""
    sites = structure("scan_chain").sites
    assert sites["drift"].parents == sites["noise"].parents == ()
    assert sites["level"].parents == ("drift", "noise")
    assert sites["y"].parents == ("drift", "noise", "level")


DIMS = {
    "eight_schools": {"mu": (), "tau": (), "theta": ("school",), "y": ("school",)},
    "nested_plates": {"mu": (), "a": ("group", "a_dim_1"), "b": ("group", "row"), "y": ("group", "row")},
    "crossed_plates": {"a": ("row", "a_dim_1"), "b": ("column",), "y": ("row", "column")},
    "simplex_plate": {"p": ("row", "p_dim_1"), "counts": ("row", "counts_dim_1")},
    "corr_cholesky": {"root": ("root_dim_0", "root_dim_1"), "scale": ("scale_dim_0",), "y": ("row", "y_dim_1")},
    "to_event_and_expand": {
        "a": ("a_dim_0", "a_dim_1"),
        "b": ("b_dim_0",),
        "c": ("c_dim_0", "c_dim_1"),
        "y": ("y_dim_0", "y_dim_1"),
    },
    "deterministic_sites": {
        "mu": (),
        "tau": (),
        "log_tau": (),
        "z": ("school",),
        "theta": ("school",),
        "y": ("school",),
    },
}


@pytest.mark.parametrize("name", DIMS)
def test_axis_names(name):
    assert {site.name: site.dims for site in structure(name).sites.values()} == DIMS[name]


def test_plates_with_their_dims_and_sizes():
    nested = structure("nested_plates")
    assert nested.plates == {"group": Plate("group", -2, 3), "row": Plate("row", -1, 4)}
    assert nested.sites["a"].plates == (Plate("group", -2, 3),)
    assert nested.sites["y"].plates == (Plate("group", -2, 3), Plate("row", -1, 4))
    assert structure("crossed_plates").sites["b"].plates == (Plate("column", -1, 4),)
    assert structure("scan_chain").plates == {}
    assert structure("random_constants").plates == {"axis_0": Plate("axis_0", -1, 4), "axis_1": Plate("axis_1", -2, 3)}


def test_kinds_data_keys_and_masks():
    def observed(name):
        return {site.name: (site.kind, site.data_key, site.masked) for site in structure(name).observed}

    assert observed("eight_schools") == {"y": ("observed", "y", False)}
    assert observed("observed_first") == {"x": ("observed", "x", False), "y": ("observed", "y", False)}
    assert observed("masked_nan") == {"y": ("observed", "y", True)}
    assert observed("mask_method") == {"y": ("observed", "y", True)}
    assert observed("conditioned") == {"y": ("observed", None, False)}
    assert observed("dict_data") == {"y": ("observed", "rows.y", False)}
    assert observed("obs_mask")["y_observed"] == ("observed", "y", True)
    assert observed("factor_site") == {}
    factors = [site for site in structure("factor_site").sites.values() if site.kind == "factor"]
    assert [(site.name, site.shape) for site in factors] == [("smooth", ()), ("per_row", (5,))]
    assert observed("log_density") == {}


def test_distribution_names_are_those_of_the_innermost_distribution():
    assert structure("to_event_and_expand").sites["a"].distribution == "Normal"
    assert structure("mask_method").sites["y"].distribution == "Normal"
    assert structure("factor_site").sites["smooth"].distribution == "Factor"


def test_unconstrained_sizes():
    sizes = {name: [s.size for s in structure(name).latents] for name in ("simplex", "simplex_plate", "corr_cholesky")}
    assert sizes == {"simplex": [3], "simplex_plate": [9], "corr_cholesky": [3, 3]}
    assert [s.unconstrained_shape for s in structure("simplex_plate").latents] == [(3, 3)]
    assert structure("covariance").dim == 6
    assert structure("zero_sum").dim == 3


def test_slices_tile_the_flat_vector_and_names_label_it():
    eight = structure("eight_schools")
    assert [(s.name, where) for s, where in eight.slices()] == [
        ("mu", slice(0, 1)),
        ("tau", slice(1, 2)),
        ("theta", slice(2, 5)),
    ]
    assert eight.coordinate_names() == ["mu", "tau", "theta[0]", "theta[1]", "theta[2]"]
    assert structure("nested_plates").coordinate_names()[:4] == ["mu", "a[0,0]", "a[1,0]", "a[2,0]"]


def test_bounds_that_come_from_data_are_arrays_and_follow_new_data():
    entry = MODELS["bounds_from_data"]
    bounds = build(entry.model, entry.data, "double").model.bijection.bounds
    assert set(bounds) == {"a", "b"}
    np.testing.assert_array_equal(bounds["a"].lower_bound, entry.data["low"])
    np.testing.assert_array_equal(bounds["a"].upper_bound, entry.data["high"])
    moved = build(entry.model, entry.data | {"low": entry.data["low"] - 1}, "double")
    np.testing.assert_array_equal(moved.model.bijection.bounds["b"].lower_bound, entry.data["low"] - 1)
    value = moved.constrain(np.full((1, 10), -50.0))
    np.testing.assert_allclose(value["a"][0], entry.data["low"] - 1, atol=1e-12)


def test_the_structure_is_found_again_for_data_of_the_same_shapes_and_nothing_recompiles():
    entry = MODELS["eight_schools"]
    first = build(entry.model, entry.data, "double")
    first.value(np.zeros((1, 5)))
    second = build(entry.model, {**entry.data, "y": entry.data["y"] + 1.0}, "double")
    before = programs_compiled()
    assert second.structure is first.structure
    assert second.value(np.zeros((1, 5))) != first.value(np.zeros((1, 5)))
    assert programs_compiled() == before
    assert build(entry.model, {"sigma": np.ones(4), "y": np.ones(4)}, "double").structure.dim == 6


def test_only_what_the_model_inspects_is_fixed():
    target = build(MODELS["size_from_data"].model, MODELS["size_from_data"].data, "double")
    assert set(target.model.data) == {"y"}
    assert set(target.model.fixed.value) == {"group"}
    target = build(MODELS["size_from_floats"].model, MODELS["size_from_floats"].data, "double")
    assert set(target.model.fixed.value) == {"knots", "y"}
    target = build(MODELS["python_arguments"].model, MODELS["python_arguments"].data, "double")
    assert set(target.model.data) == {"y"}


def test_the_data_key_is_known_for_fixed_arrays_and_never_guessed_from_a_number():
    entry = MODELS["size_from_data"]
    assert build(entry.model, entry.data, "double").structure.sites["y"].data_key == "y"

    def model(n, y):
        numpyro.sample("y", dist.Normal(numpyro.sample("mu", dist.Normal(0, n)), 1.0), obs=y[np.argsort(y)][0])
        numpyro.sample("one", dist.Normal(0.0, 1.0), obs=1)

    sites = build(model, {"n": 1, "y": np.ones(3)}, "double").structure.sites
    assert (sites["y"].data_key, sites["one"].data_key) == (None, None)


def test_sizes_computed_from_data_follow_the_data():
    """Same shapes, another number of groups: the analysis of the first data set must not serve the second."""
    entry = MODELS["size_from_data"]
    first = build(entry.model, entry.data, "double")
    second = build(entry.model, entry.data | {"group": np.array([0, 4, 1, 3, 2])}, "double")
    third = build(entry.model, entry.data, "double")
    assert (first.dim, second.dim) == (3, 5)
    assert third.structure is first.structure
    assert np.isfinite(second.value(np.zeros((1, 5)))).all()


def test_nested_data_are_known_by_shape_and_fixed_ones_by_content():
    entry = MODELS["dict_data"]
    rows = entry.data["rows"]
    first = build(entry.model, entry.data, "double")
    assert build(entry.model, {"rows": {k: v + 1 for k, v in rows.items()}}, "double").structure is first.structure
    longer = build(entry.model, {"rows": {k: np.tile(v, 2) for k, v in rows.items()}}, "double")
    assert longer.structure.sites["y"].shape == (10,)

    def model(rows):
        numpyro.sample("w", dist.Normal(0, 1).expand([int(rows["n"].sum())]).to_event(1))

    sizes = [build(model, {"rows": {"n": np.full(2, n)}}, "double").dim for n in (1, 2, 1)]
    assert sizes == [2, 4, 2]


def test_a_latent_scale_parameter_is_no_bound():
    def model(y):
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        numpyro.sample("x", dist.TruncatedNormal(0.0, scale, low=-1.0, high=2.0))
        numpyro.sample("y", dist.Normal(0.0, scale), obs=y)

    target = build(model, {"y": 1.0}, "double")
    assert target.model.bijection.bounds == {}
    assert isinstance(target.structure.sites["x"].support, type(constraints.interval(0.0, 1.0)))
    assert np.isfinite(target.value(np.zeros((1, 2)))).all()


def test_hessian_and_padding_on_a_quadratic():
    precision = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.2], [0.0, -0.2, 3.0]])

    def model(precision):
        x = numpyro.sample("x", dist.Normal(0, 1).expand([3]).to_event(1).mask(False))
        numpyro.factor("quadratic", -0.5 * x @ precision @ x)
        numpyro.factor("linear", jnp.sum(x))

    target = build(model, {"precision": precision}, "double")
    np.testing.assert_allclose(target.hessian(np.ones(3)), -precision, atol=1e-12)
    points = np.random.default_rng(0).normal(size=(150, 3))
    values, gradients = target.value_and_grad(points)
    np.testing.assert_allclose(values, -0.5 * np.einsum("ij,jk,ik->i", points, precision, points) + points.sum(1))
    np.testing.assert_allclose(gradients, 1.0 - points @ precision, atol=1e-12)
    assert target.value(points).shape == (150,)
    assert target.constrain(points)["x"].shape == (150, 3)


def test_supports_in_a_scan_depend_on_what_their_bounds_depend_on():
    def model(y, top):
        width = numpyro.sample("width", dist.HalfNormal(1))

        def step(before, now):
            a = numpyro.sample("a", dist.Uniform(0, 1))
            b = numpyro.sample("b", dist.Uniform(0, top))
            c = numpyro.sample("c", dist.Uniform(0, width))
            d = numpyro.sample("d", dist.Uniform(before, before + 1))
            numpyro.sample("y", dist.Normal(a + b + c + d, 1), obs=now)
            return d, None

        scan(step, 0.0, y)

    arrays = {"y": np.ones(4), "top": np.asarray(2.0)}
    structure = analysis.analyse(model, arrays, {})
    sources = analysis.support_sources(model, structure, arrays, {})
    assert sources == {"width": (), "a": (), "b": (), "c": ("width",), "d": ("d",)}
