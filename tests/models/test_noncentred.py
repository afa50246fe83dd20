"""Non-centred coordinates: which sites have them, a bijection, its Jacobian in the density."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

from jensen._math.precision import working
from jensen._model import LogDensity, build
from jensen._nested.noncentred import movable, noncentred

ROOT = np.array([[1.0, 0.0], [0.6, 0.8]])


def effects(y):
    """Vectors, a logarithm, a masked site, and those that cannot or need not move."""
    scales = numpyro.sample("scales", dist.HalfNormal(1.0).expand([2]).to_event(1))
    wide = numpyro.sample("wide", dist.LogNormal(0.0, 1.0))
    top = numpyro.sample("top", dist.Normal(0.0, 3.0))
    gain = numpyro.sample("gain", dist.LogNormal(top, wide))
    kind = numpyro.sample("kind", dist.Categorical(jnp.ones(2) / 2))
    numpyro.sample("flat", dist.Normal(top, 1.0))
    numpyro.sample("mixed", dist.Normal(0.0, wide * (1.0 + kind)))
    numpyro.sample("within", dist.TruncatedNormal(0.0, wide, low=0.0))
    with numpyro.plate("group", 3):
        slope = numpyro.sample("slope", dist.MultivariateNormal(jnp.zeros(2), scale_tril=scales[:, None] * ROOT))
        heavy = numpyro.sample("heavy", dist.StudentT(4.0, gain, wide).mask(jnp.array([True, True, False])))
        numpyro.sample("y", dist.Normal(slope.sum(-1) + heavy + kind, 1.0), obs=y)


@pytest.fixture(scope="module")
def target():
    return build(effects, {"y": np.array([1.0, -0.5, 2.0])}, "double")


CENTRED = {
    "gain": np.array(0.3),
    "slope": np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]),
    "heavy": np.array([0.0, 1.0, 0.6]),
}


def test_sites_with_a_scale_that_is_latent_can_move(target):
    """Not those whose location alone depends on latents, on a bounded support, or under a summed-out latent."""
    with working("double"):
        assert movable(target.model, target.structure) == ("gain", "slope", "heavy")
    assert noncentred(build(LogDensity(lambda z: -jnp.sum(z["u"] ** 2), {"u": 2}), None, "double")) is None


def test_the_jacobian_is_in_the_density_and_the_map_inverts(target):
    """log p over v is log p over u plus log |det ∂u/∂v|, that of automatic differentiation."""
    moved = noncentred(target, CENTRED)
    points = np.random.default_rng(0).normal(size=(3, target.dim))
    values = moved.value(points)
    old, new = target.model.bijection, moved.model.bijection

    @jax.jit
    def by_hand(v):
        def chart(v):
            return old.inverse(new.forward(v)[0])[0]

        return chart(v), jnp.linalg.slogdet(jax.jacfwd(chart)(v))[1], new.inverse(new.forward(v)[0])

    with working("double"):
        for point, value in zip(points, values, strict=True):
            u, log_det, (back, own) = by_hand(jnp.asarray(point))
            assert value == pytest.approx(target.value(np.asarray(u)[None])[0] + float(log_det), abs=1e-9)
            np.testing.assert_allclose(back, point, atol=1e-12)
            assert moved.log_det(point) == pytest.approx(float(own), abs=1e-12)
    wrong = noncentred(target, {**CENTRED, "heavy": np.array([0.0, 0.9, 0.6])})
    assert abs(wrong.value(points)[0] - values[0]) > 1e-3


def test_fully_centred_is_the_chart_itself_and_fully_non_centred_the_prior_in_standard_units(target):
    points = np.random.default_rng(1).normal(size=(2, target.dim))
    same = noncentred(target, {name: np.ones_like(c) for name, c in CENTRED.items()})
    np.testing.assert_allclose(same.value(points), target.value(points), rtol=1e-12)
    moved = noncentred(target)
    latent = {name: value[0] for name, value in moved.constrain(points).items()}
    at = {site.name: points[0][where].reshape(site.unconstrained_shape) for site, where in target.structure.slices()}
    assert latent["heavy"] == pytest.approx(latent["gain"] + latent["wide"] * at["heavy"], abs=1e-12)
    assert np.log(latent["gain"]) == pytest.approx(latent["top"] + latent["wide"] * at["gain"], abs=1e-12)
    factor = latent["scales"][:, None] * ROOT
    np.testing.assert_allclose(latent["slope"], at["slope"] @ factor.T, atol=1e-12)


@pytest.mark.parametrize("centred", [0.0, 0.4, 0.8])
def test_a_scale_below_the_spacing_of_its_location_does_not_make_the_effect_vanish(centred):
    """log p(v) = -½ s^(-2c) (v - c m)² - c log s + the rest, down to s = 1e-30 about a location of 3."""

    def model():
        s = numpyro.sample("s", dist.LogNormal(0.0, 10.0))
        numpyro.sample("wide", dist.LogNormal(3.0, s).expand([2]).to_event(1).mask(jnp.array(True)))
        with numpyro.plate("rows", 2):
            numpyro.sample("heavy", dist.StudentT(3.0, 3.0, s).mask(jnp.array([True, False])))

    target = build(model, {}, "double")
    moved = noncentred(target, {"wide": np.full(2, centred), "heavy": np.full(2, centred)})
    log_s, v = np.array([0.0, -20.0, -50.0, -69.0]), 3.0 * centred + np.array([1e-3, -0.7])
    at = {"s": log_s[:, None], "wide": np.tile(v, (4, 1)), "heavy": np.tile(v, (4, 1))}
    points = np.concatenate([at[name] for name in target.structure.offsets], axis=1)
    z = (v - 3.0 * centred) * np.exp(-centred * log_s)[:, None]
    normal = (-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - centred * log_s[:, None]).sum(1)
    heavy = stats.t(3.0).logpdf(z[:, 0]) - centred * log_s + (1.0 - centred) * log_s  # the other is masked
    np.testing.assert_allclose(
        moved.value(points), stats.norm(0, 10).logpdf(log_s) + normal + heavy, rtol=1e-9, atol=1e-6
    )
