"""Fields integrated out by a Gaussian at the mode and draws of what it misses: exact where they can be, and checked."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.stats import halfnorm, multivariate_normal, norm

import jensen as jn
from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._model import build
from jensen._nested import bent, laplace, over_field
from jensen._nested.elimination import eliminated
from jensen._nested.field_target import noise
from jensen._nested.order import Order
from jensen._nested.pattern import pattern
from jensen._verdict.table import summarise
from tests.nested import models


@pytest.fixture(scope="module")
def level():
    return over_field(build(models.level, {"y": models.WALK}, "double"), ("h",))


def test_a_gaussian_field_is_exact():
    y = 0.3 * np.cumsum(models.RNG.normal(size=models.STEPS)) + 0.5 * models.RNG.normal(size=models.STEPS)
    target = over_field(build(models.noisy, {"y": y}, "double"), ("z",))
    points = np.array([[-1.0, -0.5], [-3.0, 0.2]])
    exact = []
    for s, t in np.exp(points):
        covariance = s**2 * np.minimum.outer(np.arange(models.STEPS), np.arange(models.STEPS)) + s**2
        seen = multivariate_normal.logpdf(y, np.zeros(len(y)), covariance + t**2 * np.eye(len(y)))
        exact.append(seen + halfnorm.logpdf(s, scale=0.5) + halfnorm.logpdf(t) + np.log(s * t))
    np.testing.assert_allclose(_slopes_are_right(target, points), exact, atol=1e-7)


def _slopes_are_right(target, points):
    values, slopes = target.value_and_grad(points)
    for column, step in enumerate(1e-4 * np.eye(points.shape[1])):
        ends = target.value(points + step), target.value(points - step)
        np.testing.assert_allclose(slopes[:, column], (ends[0] - ends[1]) / 2e-4, atol=1e-5)
    return values


def test_crossed_gaussian_effects_are_exact(monkeypatch):
    monkeypatch.setattr("jensen._nested.elimination.LITTLE", 0.0)
    data = models.rated_data()
    target = over_field(build(models.rated, data, "double"), ("a", "b"))
    order = target.model.order
    assert order.quadratic
    assert order.elimination.stages
    persons, items = ((data[k][:, None] == np.arange(n)) * 1.0 for k, n in (("person", 30), ("item", 7)))
    points = np.array([[-0.6, 0.2], [-1.5, -0.4]])
    exact = []
    for s, t in np.exp(points):
        covariance = s**2 * persons @ persons.T + t**2 * items @ items.T + 0.49 * np.eye(120)
        seen = multivariate_normal.logpdf(data["y"], np.full(120, 0.3), covariance)
        exact.append(seen + halfnorm.logpdf([s, t]).sum() + np.log(s * t))
    np.testing.assert_allclose(_slopes_are_right(target, points), exact, atol=1e-8)
    draws, _ = target.drawn(np.repeat(points[:1], 4000, axis=0), 1)
    s, t = np.exp(points[0])
    design = np.concatenate([persons, items], axis=1)
    prior = np.r_[np.full(30, s**-2), np.full(7, t**-2)]
    precision = design.T @ design / 0.49 + np.diag(prior)
    found = np.concatenate([draws["a"], draws["b"]], axis=1)
    mean = np.linalg.solve(precision, design.T @ (data["y"] - 0.3) / 0.49)
    root = np.linalg.cholesky(precision)
    white = (found - mean) @ root
    np.testing.assert_allclose(white.mean(axis=0), 0.0, atol=0.08)
    np.testing.assert_allclose(np.cov(white.T), np.eye(37), atol=0.12)


def test_an_intrinsic_map_with_a_soft_sum_to_zero_is_exact(monkeypatch):
    monkeypatch.setattr("jensen._nested.elimination.LITTLE", 0.0)
    monkeypatch.setattr("jensen._nested.elimination.WORTH", 1.5)
    ends, count = models.edges(), models.SIDE**2
    y = 1.0 + np.random.default_rng(2).normal(size=count)
    target = over_field(build(models.smooth, {"ends": ends, "y": y}, "double"), ("phi", "v"))
    order = target.model.order
    assert len(order.curvature.single) == 1
    assert sum(len(stage.own) for stage in order.elimination.stages) >= count
    points = np.array([[-0.4, -0.8], [0.3, -1.5]])
    incidence = np.zeros((ends.shape[1], count))
    incidence[np.arange(ends.shape[1]), ends[0]], incidence[np.arange(ends.shape[1]), ends[1]] = 1.0, -1.0
    sd = 0.001 * count
    smooth = incidence.T @ incidence + np.ones((count, count)) / sd**2
    exact = []
    for s, t in np.exp(points):
        covariance = s**2 * np.linalg.inv(smooth) + (t**2 + 0.25) * np.eye(count)
        prior = 0.5 * count * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(smooth)[1] + norm.logpdf(0.0, scale=sd)
        seen = multivariate_normal.logpdf(y, np.ones(count), covariance) + prior
        exact.append(seen + halfnorm.logpdf([s, t]).sum() + np.log(s * t))
    np.testing.assert_allclose(_slopes_are_right(target, points), exact, atol=1e-7)


def test_an_intrinsic_map_without_a_constraint_is_refused():
    ends, y = models.edges(6), 1.0 + np.random.default_rng(2).normal(size=36)
    with pytest.raises(jn.ModelError, match=r"level of 'phi' is not determined.*as 's' falls"):
        jn.fit(models.smooth, {"ends": ends, "y": y, "total": False}, progress=False)


def _filtered(v):
    return models.level_filter(v)[0] + halfnorm.logpdf(np.exp(v), scale=0.5) + v


def test_counts_along_a_walk_against_a_filter(level):
    assert level.model.order.blocks > 1
    points = np.array([[-2.5], [-1.2], [-0.5]])
    exact = [_filtered(v) for v in points[:, 0]]
    np.testing.assert_allclose(level.value(points), exact, atol=0.15)
    _, slopes = level.value_and_grad(points)
    ends = level.value(points + 1e-4), level.value(points - 1e-4)
    np.testing.assert_allclose(slopes[:, 0], (ends[0] - ends[1]) / 2e-4, atol=1e-4)
    assert level.error(points) == pytest.approx(np.std(level.value(points) - exact), abs=0.1)


def test_the_error_of_draws_is_the_spread_of_many_sets(level):
    points = np.array([[-2.5], [-1.2], [-0.5]])
    sets = [level.settled()._with(noise=noise(level.model.noise, 1, 100 + k)) for k in range(24)]
    values = np.stack([one.value(points) for one in sets])
    values -= values.mean(axis=1, keepdims=True)
    spread = np.sqrt(values.var(axis=0, ddof=1).mean())
    assert spread / 2.0 < level.error(points) < 2.0 * spread


@pytest.mark.slow
def test_more_draws_bring_counts_along_a_walk_nearer_to_the_filter(level):
    points = np.array([[-2.5], [-1.2], [-0.5]])
    exact = [_filtered(v) for v in points[:, 0]]
    many = [level._with(noise=noise(level.model.noise, 64, 100 + k)).value(points) for k in range(4)]
    np.testing.assert_allclose(np.mean(many, axis=0), exact, atol=0.03)  # one set of 16 times is off by 0.034 in sd
    assert level.finer(8.0 / 3.0).error(points) < 0.5 * level.error(points)


def test_the_pattern_of_a_chain_and_of_a_map_is_found():
    side = 12
    index = np.arange(side * side).reshape(side, side)
    ends = np.stack([np.r_[index[:, :-1].ravel(), index[:-1].ravel()], np.r_[index[:, 1:].ravel(), index[1:].ravel()]])
    shuffled = models.RNG.permutation(side * side)[ends]
    expected = np.eye(side * side, dtype=bool)
    expected[tuple(shuffled)] = expected[tuple(shuffled[::-1])] = True
    numbers = expected * models.RNG.uniform(0.5, 1.5, expected.shape)
    found = pattern(lambda directions: np.abs(directions @ (numbers + numbers.T)), side * side)
    np.testing.assert_array_equal(found.toarray(), expected)
    line = eliminated(found).line
    assert line.blocks >= 3
    assert line.width < 2 * side


@pytest.mark.slow
def test_a_map_in_strips_is_the_map_in_one_block():
    side = 9
    index = np.arange(side * side).reshape(side, side)
    ends = np.stack([np.r_[index[:, :-1].ravel(), index[:-1].ravel()], np.r_[index[:, 1:].ravel(), index[1:].ravel()]])
    y = models.RNG.poisson(1.5, side * side)
    strips = over_field(build(models.mapped, {"y": y, "ends": ends}, "double"), ("phi",))
    whole = strips._with(order=Order.dense(side * side), noise=strips.model.noise[:, :0])
    points = np.array([[-0.7], [-1.5]])
    assert strips.model.order.blocks > 1
    bare = strips._with(noise=strips.model.noise[:, :0])
    np.testing.assert_allclose(bare.value(points), whole.value(points), atol=1e-8)


@pytest.mark.parametrize(
    ("model", "y", "said"), [(models.bimodal, np.ones(models.STEPS), True), (models.level, models.WALK, False)]
)
def test_a_field_that_is_not_concave_shows_before_its_programs_are_compiled(model, y, said):
    assert ("'h' is not concave" in bent(build(model, {"y": y}, "double"), ("h",))) == said


def test_a_field_that_is_not_concave_is_doubted():
    target = over_field(build(models.bimodal, {"y": 1.0 + np.zeros(models.STEPS)}, "double"), ("h",))
    assert "'h' is not concave" in target.doubts(np.full((16, 1), -2.0))


@pytest.mark.slow
def test_a_step_too_far_is_no_lack_of_concavity():
    y = 3.0 * np.random.default_rng(1).normal(size=models.STEPS)
    target = over_field(build(models.volatile, {"y": y}, "double"), ("h",))
    assert target.doubts(np.random.default_rng(0).normal(0.0, 0.5, (16, 1))) == ""


@pytest.mark.parametrize("field", ["x", ("h", "s")])
def test_what_can_be_no_field_is_refused(field):
    with pytest.raises(jn.OptionError, match="field"):
        jn.fit(models.level, {"y": models.WALK}, jn.nested(field=field), progress=False)


def test_a_field_that_leaves_too_much_is_refused():
    y, ends = np.ones(81, int), np.stack([np.arange(80), np.arange(1, 81)])
    with pytest.raises(jn.ModelError, match=r"leaves 81 other latents.*'phi' \(81\)"):
        jn.fit(models.mapped, {"y": y, "ends": ends}, jn.nested(field="s"), progress=False)


@pytest.fixture(scope="module")
def fit():
    return jn.fit(models.level, {"y": models.WALK}, progress=False)


@pytest.fixture(scope="module")
def exact():
    """Moments of s and of the states, from a grid over log s, and log p(y)."""
    v = np.linspace(-4.0, 0.7, 95)
    found = [models.level_filter(one) for one in v]
    logs = np.array([one[0] for one in found]) + halfnorm.logpdf(np.exp(v), scale=0.5) + v
    share = np.exp(logs - logs.max())
    evidence = logs.max() + np.log(share.sum() * (v[1] - v[0]))
    share /= share.sum()
    mean = share @ np.exp(v)
    states = np.array([one[1] for one in found])
    means = np.einsum("v,vt->t", share, states[:, :, 0])
    sds = np.sqrt(np.einsum("v,vt->t", share, states[:, :, 1] ** 2 + states[:, :, 0] ** 2) - means**2)
    return (mean, np.sqrt(share @ (np.exp(v) - mean) ** 2)), means, sds, evidence


def test_a_fit_has_the_posterior_of_scale_and_states(fit, exact):
    (mean, sd), means, sds, evidence = exact
    assert "integrated out" in fit.status
    assert fit.check().verdict in ("trusted", "usable")
    table = fit.summary()
    assert abs(table.loc["s", "mean"] - mean) < 0.1 * sd
    assert table.loc["s", "sd"] == pytest.approx(sd, rel=0.1)
    states = table.loc[[f"h[{t}]" for t in range(models.STEPS)]]
    assert np.abs(states["mean"] - means).max() < 0.1 * sds.min()
    np.testing.assert_allclose(states["sd"], sds, rtol=0.1)
    low, high = fit.evidence().interval
    assert low - 0.05 < evidence < high + 0.05


def test_a_table_of_few_places_with_several_draws_at_each_is_that_of_many_and_knows_its_error(fit, exact, monkeypatch):
    monkeypatch.setattr(type(fit.target), "places", lambda self, count: (40, 10))
    table = summarise(fit, ["h"], raw=True)
    assert len(table) == models.STEPS
    apart = (table["mean"] - exact[1]) / table["mcse_mean"]
    assert np.abs(apart).max() < 5.0
    assert 0.6 < np.sqrt((apart**2).mean()) < 1.6
    assert (table["mcse_mean"] > 0.99 * table["sd"] / np.sqrt(400) / 1.6).all()
    np.testing.assert_allclose(table["sd"], exact[2], rtol=0.25)


@pytest.mark.slow
def test_auto_leaves_a_field_that_is_not_concave():
    auto = jn.auto(num_starts=1, escalate=False)
    fit = jn.fit(models.bimodal, {"y": 1.0 + np.zeros(models.STEPS)}, auto, progress=False)
    assert "'h' is not concave. So nothing was integrated out" in fit.status
    assert fit.q.dim == models.STEPS + 1


def test_draws_saving_and_prediction(fit, tmp_path):
    draws = fit.sample(30)
    np.testing.assert_allclose(draws["rate"], np.exp(1.0 + draws["h"]), rtol=1e-6)
    fit.save(tmp_path / "fit.jn")
    again = jn.load(tmp_path / "fit.jn").attach(models.level, {"y": models.WALK})
    np.testing.assert_array_equal(again.sample(30)["h"], draws["h"])
    assert again.predict(num_draws=10)["y"].shape == (10, models.STEPS)


def test_remainders_in_parts_are_those_of_the_whole(level, monkeypatch):
    model = level.model
    noise = np.random.default_rng(1).normal(size=(models.STEPS, 1000))

    def both(point, noise):
        density = model.given(point)
        near = model.near(density)
        at = near.z, near.factor, noise, model.order
        whole = laplace.remainders(density, *at).reshape(-1)
        parts = laplace.remainders_in_parts(density, *at)
        return whole, parts, laplace.log_mean_weight(density, *at)

    monkeypatch.setattr("jensen._nested.order.MANY", 1)
    monkeypatch.setattr("jensen._nested.order.APART", 1)
    with working("double"):
        whole, parts, apart = jax.device_get(Program(both)(np.array([-1.2]), noise))
    assert parts.shape == (3, 2000)
    assert np.sqrt(np.mean((parts.sum(axis=0) - whole) ** 2)) < 0.003 * whole.std()
    np.testing.assert_allclose(parts.sum(axis=0), whole, atol=0.03 * whole.std())
    assert apart == pytest.approx(np.log(np.exp(whole).mean()), abs=0.02)


def test_the_gradient_of_an_integral_in_parts_is_that_of_its_values(level, monkeypatch):
    monkeypatch.setattr("jensen._nested.order.MANY", 1)
    monkeypatch.setattr("jensen._nested.order.APART", 1)
    assert level.model.order.parts > 1
    at = Program(lambda model, point: jax.value_and_grad(model.log_density)(point))
    with working("double"):
        here, ahead, behind = (jax.device_get(at(level.model, np.array([-1.2 + h]))) for h in (0.0, 1e-4, -1e-4))
    assert here[1][0] == pytest.approx((ahead[0] - behind[0]) / 2e-4, rel=1e-6)


def test_weights_that_vary_by_nats_are_averaged_by_cumulants():
    rng = np.random.default_rng(4)
    odd, even = rng.normal(size=(2, 4000))
    odd, even = 4.0 * odd / np.sqrt(np.mean(odd**2)), 2.0 + 0.5 * (even - even.mean()) / even.std()
    found = laplace.by_cumulants(np.stack([even + odd, even - odd]))
    assert found == pytest.approx(2.0 + 0.5 * 16.0 + 0.5 * 0.25, abs=1e-5)  # of normal r with this mean and variance
    rounding = 1e16 * rng.normal(size=(2, 8))  # of differences of log densities about -1e32
    assert laplace.by_cumulants(rounding) < 2e16


def test_what_bends_far_from_where_it_was_looked_at_is_not_taken_for_gaussian():
    points = np.zeros((4, 1))
    beyond, within = (over_field(build(models.bent, {"y": np.full(12, y)}, "double"), ("z",)) for y in (6.0, -5.0))
    assert beyond.model.order.quadratic  # as far as generic points say
    assert beyond.drawn(points, 1)[1].accepted.max() == 0.0
    assert beyond.doubts(points)
    assert within.drawn(points, 1)[1].accepted.min() == 1.0
    assert not within.doubts(points)


def test_the_work_of_a_factorisation_without_some_latents_is_that_of_their_pattern():
    data = models.rated_data()
    target = over_field(build(models.rated, data, "double"), ("a", "b"))
    only = over_field(build(models.rated, data, "double"), ("a",))
    assert target.dearer(("a",)) == target.model.order.elimination.work / only.model.order.elimination.work
    assert target.dearer(("a", "b")) == 1.0


def _summed(y):
    """A walk and an autoregression of order two, written by their innovations."""
    s, t = numpyro.sample("s", dist.HalfNormal(0.5)), numpyro.sample("t", dist.HalfNormal(1))
    with numpyro.plate("step", len(y)):
        z = numpyro.sample("z", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(s * jnp.cumsum(z), t).to_event(1), obs=y)


def _looped(y):
    s, t = numpyro.sample("s", dist.HalfNormal(0.5)), numpyro.sample("t", dist.HalfNormal(1))
    z = numpyro.sample("z", dist.Normal(0, 1).expand([len(y)]).to_event(1))

    def step(last, e):
        new = 0.5 * last[0] + 0.3 * last[1] + s * e
        return (new, last[0]), new

    states = jax.lax.scan(step, (0.0, 0.0), z)[1]
    numpyro.sample("y", dist.Normal(states, t).to_event(1), obs=y)


@pytest.mark.parametrize(("model", "lags"), [(_summed, (1.0,)), (_looped, (0.5, 0.3))])
def test_innovations_are_told_by_the_states_that_they_make(model, lags):
    size = 48
    y = 0.3 * np.cumsum(models.RNG.normal(size=size)) + 0.5 * models.RNG.normal(size=size)
    target = over_field(build(model, {"y": y}, "double"), ("z",))
    assert target.model.states.lags == len(lags)
    assert len(target.model.order.elimination.keys) <= 3 * size  # a band, not half a square
    inverse = np.eye(size) - sum(lag * np.eye(size, k=-k - 1) for k, lag in enumerate(lags))
    root = np.linalg.inv(inverse)
    points = np.array([[-1.0, -0.5], [-3.0, 0.2]])
    exact = []
    for s, t in np.exp(points):
        seen = multivariate_normal.logpdf(y, np.zeros(size), s**2 * root @ root.T + t**2 * np.eye(size))
        exact.append(seen + halfnorm.logpdf(s, scale=0.5) + halfnorm.logpdf(t) + np.log(s * t))
    np.testing.assert_allclose(_slopes_are_right(target, points), exact, atol=1e-7)
    if len(lags) > 1:  # draws of one are as good as of the other
        return
    z = target.drawn(np.repeat(points[:1], 4000, axis=0), 1)[0]["z"]
    s, t = np.exp(points[0])
    covariance = np.linalg.inv(np.eye(size) + (s / t) ** 2 * root.T @ root)
    mean = covariance @ root.T @ y * s / t**2
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((z.mean(axis=0) - mean) / sd).max() < 5.0 / np.sqrt(4000)
    np.testing.assert_allclose(z.std(axis=0) / sd, 1.0, atol=0.06)


def test_a_cliff_is_no_other_mode_and_draws_are_pushed_back_from_it(monkeypatch):
    monkeypatch.setattr("jensen._nested.field_target.FAR", 30.0)  # where it would take a search too long
    target = over_field(build(models.empty, {"y": np.zeros(200, int)}, "double"), ("z",))
    points = np.log([[0.1], [0.1]])
    assert target.shape(points) == ""
    draws, found = target.drawn(np.repeat(points[1:], 32, axis=0), 1)
    assert found.accepted.mean() > 0.7
    z = np.linspace(-30.0, 6.0, 5001)
    weights = np.exp(-np.exp(z) - z**2 / 8.0)
    mean = weights @ z / weights.sum()
    sd = np.sqrt(weights @ (z - mean) ** 2 / weights.sum())
    assert abs(draws["z"].mean() - mean) < 0.1 * sd
    assert abs(draws["z"].std() / sd - 1.0) < 0.05
