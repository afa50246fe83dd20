"""What `jn.fit` promises besides the answer: the same bits, no second compilation, flags untouched, nothing lost."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._core import Progress
from jensen._math.clock import programs_compiled
from tests.posteriors import METHODS, conjugate, conjugate_data, counts, counts_data, fitted, logistic, logistic_data

# ---- the same again ------------------------------------


def leaves(fit):
    parts = [*jax.tree.leaves(fit.q), *fit.sample(50).values(), *fit.pool.weights[None]]
    return [np.asarray(part).tobytes() for part in parts] + [fit.elbo, fit.check()]


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bits(method):
    data = counts_data()
    first, second = (jn.fit(counts, data, METHODS[method], seed=5) for _ in range(2))
    assert leaves(first) == leaves(second)


def test_another_seed_gives_other_bits_and_the_same_answer():
    first, second = fitted("logistic"), fitted("logistic", seed=1)
    assert leaves(first) != leaves(second)
    assert np.abs((first.q.loc - second.q.loc) / first.q.scales()).max() < 0.05


def test_draws_depend_on_their_seed_only():
    fit = fitted("logistic")
    assert np.array_equal(fit.sample(20, seed=3)["w"], fit.sample(20, seed=3)["w"])
    assert not np.array_equal(fit.sample(20, seed=3)["w"], fit.sample(20, seed=4)["w"])


# ---- compilation ------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_second_fit_compiles_nothing(method):
    def everything(data):
        fit = jn.fit(logistic, data, METHODS[method])
        fit.summary(), fit.check(), fit.evidence(), fit.sample(100)
        return fit

    everything(logistic_data(seed=1))
    before = programs_compiled()
    everything(logistic_data(seed=1))
    again = everything(logistic_data(seed=2))  # new data of the same shapes
    assert programs_compiled() == before
    assert again.timings["programs"] == 0


def test_other_shapes_do_compile():
    jn.fit(conjugate, conjugate_data(rows=12))
    before = programs_compiled()
    jn.fit(conjugate, conjugate_data(rows=13))
    assert programs_compiled() > before


def test_new_data_give_a_new_answer():
    fits = [jn.fit(logistic, logistic_data(seed=s)) for s in (1, 2)]
    assert np.abs(fits[0].q.loc - fits[1].q.loc).max() > 0.05


# ---- precision ------------------------------------


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("precision", ["double", "single"])
def test_the_users_flag_is_left_alone(flag, precision):
    with jax.enable_x64(flag):
        fit = jn.fit(conjugate, conjugate_data(), "laplace", precision=precision)
        fit.sample(10), fit.check(), fit.summary()
        assert jax.config.jax_enable_x64 == flag
        assert jnp.ones(1).dtype == (jnp.float64 if flag else jnp.float32)
    assert fit.sample(10)["w"].dtype == (np.float64 if precision == "double" else np.float32)


@pytest.mark.parametrize("method", ["gaussian", "laplace", "mean_field"])
def test_single_precision_gives_the_same_answer(method):
    double, single = (jn.fit(logistic, logistic_data(), METHODS[method], precision=p) for p in ("double", "single"))
    assert np.abs((double.q.loc - single.q.loc) / double.q.scales()).max() < 0.02
    assert np.abs(np.log(double.q.scales() / single.q.scales())).max() < 0.02
    assert single.check().verdict == double.check().verdict


def test_float64_inside_whatever_the_flag():
    offset = 1e6  # float32 would lose the posterior's width of 0.01
    fits = []
    for flag in (False, True):
        with jax.enable_x64(flag):
            fits.append(jn.fit(far_away, {"y": offset + np.linspace(-0.1, 0.1, 100)}, "laplace"))
    assert fits[0].q.loc[0] == fits[1].q.loc[0] == pytest.approx(offset, abs=1e-4)
    assert fits[0].q.scales()[0] == pytest.approx(0.01, rel=1e-6)


def far_away(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1e8))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(mu, 0.1), obs=y)


# ---- progress and interruption ------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_progress_is_reported_step_by_step(method):
    seen = []
    fit = jn.fit(logistic, logistic_data(), METHODS[method], progress=seen.append)
    assert all(isinstance(item, Progress) for item in seen)
    assert [(item.phase, item.step) for item in seen] == [(row["phase"], row["step"]) for row in fit.history]
    seconds = [row["seconds"] for row in fit.history]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= fit.timings["total"]
    assert fit.timings["compile"] + fit.timings["run"] == pytest.approx(fit.timings["total"])
    assert fit.timings["gradients"] > 0


@pytest.mark.parametrize("method", ["gaussian", "mean_field", "full_rank", "laplace", "pathfinder"])
def test_an_interrupted_fit_returns_the_best_so_far_and_says_so(method):
    def stop(item):
        if item.q is not None:
            raise KeyboardInterrupt

    fit = jn.fit(logistic, logistic_data(), METHODS[method], progress=stop)
    assert not fit.converged
    assert fit.status.startswith("Interrupted by the user in phase '")
    assert "best approximation so far" in fit.status
    assert np.isfinite(fit.elbo.value)
    report = fit.check()
    assert report.verdict != "trusted"
    assert any("Interrupted by the user" in reason for reason in report.reasons)
    assert set(fit.sample(5)) == {"w"}


def test_an_interruption_before_there_is_anything_is_passed_on():
    def stop(item):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jn.fit(logistic, logistic_data(), progress=stop)


def test_a_late_interruption_keeps_a_good_answer():
    """Interrupted at its last step, full-rank ADVI has all but converged."""
    whole = fitted("logistic", "full_rank")
    last = len(whole.history)
    count = iter(range(1, last + 1))

    def stop(item):
        if next(count) == last:
            raise KeyboardInterrupt

    fit = jn.fit(logistic, logistic_data(), METHODS["full_rank"], progress=stop)
    assert fit.elbo.value == pytest.approx(whole.elbo.value, abs=0.01)
    assert not fit.converged


# ---- regions where the density is not finite ------------------------------------


def _not_a_number_beyond(z, radius):
    inside = jnp.sum(z["x"] ** 2) < radius**2
    return jnp.where(inside, -0.5 * jnp.sum((z["x"] - 0.5) ** 2), jnp.nan)


def nan_prior(y):
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.factor("cliff", jnp.where(x < 1.0, 0.0, jnp.nan))
    numpyro.sample("y", dist.Normal(x, 1.0), obs=y)


@pytest.mark.parametrize("method", METHODS)
def test_not_a_number_beyond_a_radius_is_survived_and_named(method):
    fit = jn.fit(nan_prior, {"y": 1.0}, METHODS[method])
    assert np.isfinite(fit.q.loc).all()
    assert np.isfinite(fit.q.scales()).all()
    report = fit.check()
    assert report.verdict != "trusted"
    assert any("not finite" in reason and "cliff" in reason for reason in report.reasons) or report.khat > 0.7


def test_a_far_cliff_that_no_draw_reaches_does_no_harm():
    model = jn.LogDensity(_not_a_number_beyond, {"x": 2})
    fit = jn.fit(model, {"radius": 50.0})
    assert fit.check().verdict == "trusted"
    np.testing.assert_allclose(fit.q.loc, 0.5, atol=1e-6)


def test_all_draws_not_finite_is_reported_not_hidden():
    model = jn.LogDensity(_not_a_number_beyond, {"x": 2})
    fit = jn.fit(model, {"radius": 0.9}, "laplace")
    assert fit.check().verdict == "untrusted"
    assert any("not finite" in reason and "log_density" in reason for reason in fit.check().reasons)


def impossible(x, y):
    rate = numpyro.sample("rate", dist.Exponential(1.0))
    with numpyro.plate("row", len(x)):
        numpyro.sample("x", dist.Normal(rate, 1.0), obs=x)
        numpyro.factor("y", jnp.where(y > 0, dist.Gamma(2.0, rate).log_prob(jnp.abs(y)), -jnp.inf))


@pytest.mark.parametrize("method", METHODS)
def test_minus_infinity_at_every_start_names_site_and_row(method):
    with pytest.raises(jn.ModelError) as caught:
        jn.fit(impossible, {"x": np.ones(4), "y": np.array([1.0, 2.0, -3.0, 1.0])}, METHODS[method])
    assert "site 'y'" in caught.value.what
    assert "Site 'y', first at row 2 of shape (4,)." in caught.value.where


def test_a_gradient_that_is_not_finite_is_told_apart():
    model = jn.LogDensity(lambda z: -jnp.sum(jnp.sqrt(z["x"] * 0.0)) - jnp.sum(z["x"] ** 2), {"x": 2})
    with pytest.raises(jn.ModelError, match="gradient is not, at every start"):
        jn.fit(model)


def test_starts_are_found_in_a_small_corner():
    """Finite only within 0.05 of the origin: the starts shrink until some are inside."""
    model = jn.LogDensity(
        lambda z: jnp.where(jnp.abs(z["x"]).max() < 0.05, -0.5 * jnp.sum((z["x"] / 0.005) ** 2), -jnp.inf), {"x": 4}
    )
    fit = jn.fit(model)
    np.testing.assert_allclose(fit.q.scales(), 0.005, rtol=1e-3)


# ---- densities without a maximum ------------------------------------


IMPROPER = {
    "flat": jn.LogDensity(lambda z: 0.0 * z["x"], {"x": ()}),
    "flat in one direction": jn.LogDensity(lambda z: -0.5 * (z["x"] + z["y"]) ** 2, {"x": (), "y": ()}),
    "rising": jn.LogDensity(lambda z: 1e-3 * jnp.arctan(z["x"]), {"x": ()}),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", IMPROPER)
def test_a_density_without_a_maximum_is_refused(name, method):
    with pytest.raises(jn.ModelError, match="improper"):
        jn.fit(IMPROPER[name], method=METHODS[method])


# ---- names and options ------------------------------------


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: jn.fit(conjugate, conjugate_data(), "lapalce"), ["no method 'lapalce'", "Did you mean 'laplace'?"]),
        (
            lambda: jn.fit(conjugate, conjugate_data(), "ADVI"),
            ["no method 'ADVI'", "advi, amortised, auto, bbvi, cavi, hvm, laplace"],
        ),
        (lambda: jn.fit(conjugate, conjugate_data(), 3), ["not int", "method"]),
        (lambda: jn.fit(conjugate, conjugate_data(), jn.advi), ["not function"]),
        (lambda: jn.advi(famly="full_rank"), ["no option 'famly'", "Did you mean 'family'?"]),
        (lambda: jn.auto(dense=3), ["auto has no option 'dense'", "dense_limit"]),
        (lambda: jn.laplace(starts=3), ["no option 'starts'", "num_starts"]),
        (lambda: jn.pathfinder(paths=3), ["no option 'paths'", "num_paths"]),
        (lambda: jn.advi(family="fullrank"), ["no family 'fullrank'", "Did you mean 'full_rank'?"]),
        (lambda: jn.advi(family=None), ["must be a name", "NoneType"]),
        (lambda: jn.advi(engine="stochastik"), ["no engine", "Did you mean 'stochastic'?"]),
        (lambda: jn.advi(num_draws=7), ["even", "7"]),
        (lambda: jn.advi(num_draws=0), ["at least 2"]),
        (lambda: jn.advi(num_draws=-2), ["at least 2"]),
        (lambda: jn.advi(num_draws=64.0), ["num_draws"]),
        (lambda: jn.advi(rank=0), ["rank", "mean_field"]),
        (lambda: jn.advi(num_starts=0), ["num_starts", "between 1 and"]),
        (lambda: jn.advi(max_draws=-1), ["max_draws"]),
        (lambda: jn.auto(num_starts=0), ["num_starts", "between 1 and"]),
        (lambda: jn.auto(num_starts="8"), ["num_starts"]),
        (lambda: jn.auto(dense_limit=-1), ["dense_limit"]),
        (lambda: jn.auto(rank=0), ["rank"]),
        (lambda: jn.laplace(num_starts=0), ["num_starts"]),
        (lambda: jn.pathfinder(num_paths=0), ["num_paths"]),
        (lambda: jn.pathfinder(num_draws=0), ["num_draws"]),
        (lambda: jn.pathfinder(history=0), ["history"]),
        (lambda: jn.pathfinder(max_steps=0), ["max_steps"]),
        (lambda: jn.fit(conjugate, conjugate_data(), precision="half"), ["precision", "'half'"]),
        (lambda: jn.fit(conjugate, conjugate_data(), seed="a"), ["seed"]),
        (lambda: jn.fit(conjugate, conjugate_data(), seed=-1), ["seed"]),
        (lambda: fitted("conjugate").sample(0), ["num_draws", "between 1 and 100000000"]),
        (lambda: fitted("conjugate").sample(10**12), ["num_draws", "between 1 and 100000000"]),
        (lambda: jn.pathfinder(num_draws=10**12), ["num_draws", "between 1 and 100000000"]),
        (lambda: fitted("conjugate").summary(["wx"]), ["no site 'wx'", "w"]),
        (lambda: fitted("counts").summary(["slop"]), ["no site 'slop'", "Did you mean 'slope'?"]),
    ],
)
def test_bad_names_and_values_are_refused_in_words(call, parts):
    with pytest.raises(jn.OptionError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


def test_data_errors_come_before_any_compilation():
    before = programs_compiled()
    with pytest.raises(jn.DataError, match="no argument 'z'"):
        jn.fit(conjugate, {**conjugate_data(), "z": 1.0})
    assert programs_compiled() == before


def test_an_alias_is_its_method_with_the_defaults():
    assert jn.fit(conjugate, conjugate_data(), "laplace").options == vars(jn.laplace())
    with pytest.raises(AttributeError):
        jn.laplace().num_starts = 3  # frozen


def test_repr_says_the_method_and_why_it_stopped():
    text = repr(fitted("conjugate"))
    assert "method='auto'" in text
    assert "nats" in text
    assert fitted("conjugate").status in text
