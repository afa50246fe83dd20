"""What must hold for every model of the zoo: density, bijection and deterministic sites are NumPyro's own."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.infer.util import log_density, potential_energy

from jensen._core import total
from jensen._math.precision import working
from jensen._model import LogDensity, Target, build
from tests.zoo import MODELS

ROWS = 3
names = pytest.mark.parametrize("name", MODELS)


class Case(NamedTuple):
    """One model evaluated at `ROWS` points in one compiled program: jensen's answers, and NumPyro's."""

    target: Target
    points: np.ndarray
    ours: dict[str, Any]
    theirs: dict[str, Any]


@functools.cache
def evaluated(name: str) -> Case:
    entry = MODELS[name]
    target = build(entry.model, entry.data, "double")
    points = np.random.default_rng(3).normal(size=(ROWS, target.dim)) * 0.7
    with working("double"):
        ours = jax.jit(jax.vmap(_ours, (None, 0)))(target.model, points)
        theirs = jax.jit(jax.vmap(functools.partial(_numpyro, entry, target)))(points)
        return Case(target, points, *jax.device_get((ours, theirs)))


def _ours(model, point):
    latent, log_det = model.bijection.forward(point)
    back, log_det_back = model.bijection.inverse(latent)
    return {
        "latent": latent,
        "log_det": log_det,
        "back": back,
        "log_det_back": log_det_back,
        "jacobian": jax.jacfwd(lambda u: _chart(model, model.bijection.forward(u)[0]))(point),
        "terms": model.log_joint(latent),
        "log_density": model.log_density(point),
        "constrained": model.constrain(point),
    }


def _numpyro(entry, target, point):
    """The same from NumPyro's public functions (a LogDensity: from the function and `biject_to`)."""
    pieces = {s.name: point[where].reshape(s.unconstrained_shape) for s, where in target.structure.slices()}
    if isinstance(entry.model, LogDensity):
        transforms = {n: biject_to(entry.model.supports.get(n, constraints.real)) for n in pieces}
        latent = {n: t(pieces[n]) for n, t in transforms.items()}
        log_det = total([t.log_abs_det_jacobian(pieces[n], latent[n]) for n, t in transforms.items()])
        value = entry.model.fn(latent, **entry.data)
        return {"log_density": value, "potential": -value - log_det, "constrained": latent, "shapes": {}}
    program = handlers.seed(entry.model, rng_seed=0)
    latent = target.model.bijection.forward(point)[0]
    value, trace = log_density(program, (), entry.data, latent)
    kinds = {n: s["type"] for n, s in trace.items()}
    potential = potential_energy(program, (), entry.data, pieces)
    for site in target.structure.latents:
        # NumPyro multiplies a scaled latent's Jacobian by the scale too, so its density would depend on the chart.
        if (scale := trace[site.name]["scale"]) is not None:
            transform = biject_to(trace[site.name]["fn"].support)
            log_det = transform.log_abs_det_jacobian(pieces[site.name], latent[site.name])
            potential += (scale - 1.0) * jnp.sum(log_det)
    return {
        "log_density": value,
        "potential": potential,
        "constrained": {n: s["value"] for n, s in trace.items() if n in latent or kinds[n] == "deterministic"},
        # Zeros of each site's batch shape: what an elementwise log density must look like.
        "shapes": {n: jnp.zeros(s["fn"].batch_shape) for n, s in trace.items() if kinds[n] == "sample"},
    }


def _chart(model, latent):
    """As many coordinates of the constrained value as there are unconstrained ones, so that the Jacobian is square."""
    pieces = []
    for site in model.bijection.structure.latents:
        value, support = latent[site.name], site.support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        size = site.unconstrained_shape[-1:]
        if support is constraints.simplex:
            value = value[..., :-1]
        elif support is constraints.zero_sum or isinstance(support, constraints.zero_sum):
            value = jnp.zeros(site.unconstrained_shape)  # orthonormal: its density is on the plane, not on a chart
        elif site.event_dim == 2 and site.shape != site.unconstrained_shape:
            offset = -1 if size[0] < site.shape[-1] * (site.shape[-1] + 1) // 2 else 0
            value = value[..., *np.tril_indices(site.shape[-1], offset)]
        pieces.append(value.reshape(-1))
    return jnp.concatenate(pieces)


def close(ours, theirs, tolerance=1e-10):
    """Agreement relative to max(1, |value|)."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.float64
    assert np.all(np.abs(ours - theirs) <= tolerance * np.maximum(1.0, np.abs(theirs))), (ours, theirs)


def summed(terms):
    """(rows,) sums of every term."""
    return sum(np.asarray(term).reshape(ROWS, -1).sum(axis=1) for term in terms.values())


@names
def test_latents_are_found_in_model_order_with_their_shapes(name):
    structure, entry = evaluated(name).target.structure, MODELS[name]
    assert {site.name: site.shape for site in structure.latents} == entry.latents
    assert [site.name for site in structure.latents] == list(entry.latents)
    assert {site.name: site.shape for site in structure.deterministic} == entry.deterministic
    assert len(structure.coordinate_names()) == len(set(structure.coordinate_names())) == structure.dim


@names
def test_terms_sum_to_the_log_density_of_numpyro(name):
    case = evaluated(name)
    close(summed(case.ours["terms"]), case.theirs["log_density"])
    assert np.isfinite(case.theirs["log_density"]).all()


@names
def test_flat_log_density_is_minus_the_potential_energy(name):
    case = evaluated(name)
    close(case.ours["log_density"], -case.theirs["potential"])


@names
def test_terms_are_elementwise_over_the_plates(name):
    case = evaluated(name)
    if isinstance(MODELS[name].model, LogDensity):
        assert {n: t.shape for n, t in case.ours["terms"].items()} == {"log_density": (ROWS,)}
        return
    assert {n: t.shape for n, t in case.ours["terms"].items()} == {n: t.shape for n, t in case.theirs["shapes"].items()}
    for site in case.target.structure.sites.values():
        for plate in site.plates:
            if site.kind != "deterministic":
                assert case.ours["terms"][site.name].shape[plate.dim] in (plate.size, 1)


@names
def test_inverse_undoes_forward(name):
    case = evaluated(name)
    close(case.ours["back"], case.points, 1e-8)
    close(case.ours["log_det_back"], case.ours["log_det"], 1e-8)


@names
def test_log_det_is_that_of_the_jacobian(name):
    case = evaluated(name)
    jacobian = case.ours["jacobian"]
    keep = np.abs(jacobian).sum(axis=(0, 2)) > 0  # rows of zeros: sites without a square chart
    jacobian = jacobian[:, keep][:, :, keep]
    close(np.linalg.slogdet(jacobian)[1], case.ours["log_det"], 1e-9)


@names
def test_values_lie_on_the_support(name):
    case = evaluated(name)
    for site in case.target.structure.latents:
        support = case.target.model.bijection.bounds.get(site.name, site.support)
        assert np.all(support(jnp.asarray(case.ours["latent"][site.name]))), site.name


@names
def test_constrain_gives_numpyros_latents_and_deterministic_sites(name):
    case = evaluated(name)
    assert set(case.ours["constrained"]) == set(MODELS[name].latents) | set(MODELS[name].deterministic)
    for site, value in case.theirs["constrained"].items():
        close(case.ours["constrained"][site], value)


@names
@pytest.mark.parametrize("flag", [False, True])
def test_target_gives_the_same_whatever_the_users_x64_flag(name, flag):
    case = evaluated(name)
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", flag)
    try:
        target = build(MODELS[name].model, MODELS[name].data, "double")
        values, gradients = target.value_and_grad(case.points)
        latent = target.constrain(case.points)
        back = target.unconstrain({k: v[0] for k, v in latent.items()})
        assert jax.config.jax_enable_x64 is flag
        assert jnp.zeros(()).dtype == (jnp.float64 if flag else jnp.float32)
    finally:
        jax.config.update("jax_enable_x64", before)
    close(values, -case.theirs["potential"])
    assert np.isfinite(gradients).all()
    close(back, case.points[0], 1e-8)
    assert all(v.dtype == np.float64 for v in latent.values())


@pytest.mark.parametrize(
    "name", ["eight_schools", "masked_nan", "simplex", "corr_cholesky", "scan_chain", "bounds_from_data"]
)
def test_single_precision_agrees_to_single_precision(name):
    case = evaluated(name)
    values, gradients = build(MODELS[name].model, MODELS[name].data, "single").value_and_grad(case.points)
    assert np.all(np.abs(values + case.theirs["potential"]) <= 1e-4 * np.maximum(1.0, np.abs(values)))
    assert np.isfinite(gradients).all()


def test_the_law_catches_a_density_that_is_two_per_cent_off():
    case = evaluated("eight_schools")
    with pytest.raises(AssertionError):
        close(summed(case.ours["terms"]) * 1.02, case.theirs["log_density"])
    with pytest.raises(AssertionError):
        close(case.ours["log_density"] + 1e-7, -case.theirs["potential"])
