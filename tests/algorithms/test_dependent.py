"""When auto goes from a product of factors to a hierarchical model, and which one."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._auto import dependent_factors
from jensen._core import Outcome
from jensen._families.native import Bernoulli, Product
from jensen._math.precision import working
from jensen._model.native import native_target

LOG_P = np.log(np.array([[0.1, 0.4], [0.4, 0.1]]))


def two_bits(log_p):
    with numpyro.plate("bit", 2):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.factor("table", jnp.asarray(log_p)[z[0], z[1]] + 2 * np.log(2.0))


def pairs(y):
    with numpyro.plate("row", len(y)):
        a = numpyro.sample("a", dist.Bernoulli(0.5))
        b = numpyro.sample("b", dist.Bernoulli(0.5))
        numpyro.sample("y", dist.Normal(a + b, 0.3), obs=y)


def product_of(**sizes):
    with working("double"):
        return Product({name: Bernoulli(jnp.zeros(size)) for name, size in sizes.items()})


def test_rows_without_common_terms_get_a_prior_each():
    apart = native_target(pairs, {"y": np.array([1.0, 0.9, 2.0])}, "double")
    assert dependent_factors.suited(apart, product_of(a=3, b=3), False).plate == "row"
    joined = native_target(two_bits, {"log_p": LOG_P}, "double")
    assert dependent_factors.suited(joined, product_of(z=2), False).plate is None

    def many(y):
        z = numpyro.sample("z", dist.Bernoulli(0.5).expand([80]).to_event(1))
        numpyro.sample("y", dist.Normal(jnp.sum(z), 1.0), obs=y)

    large = native_target(many, {"y": 3.0}, "double")
    assert dependent_factors.suited(large, product_of(z=80), False) is None
    assert dependent_factors.suited(large, product_of(z=80), True).plate is None


def test_what_a_product_lacks_is_measured_and_a_gap_without_remedy_is_said(monkeypatch):
    """The uniform product is Σ ¼ log(¼ / p) = 0.2231 nats from the table, and none from the uniform one."""
    target = native_target(two_bits, {"log_p": LOG_P}, "double")
    found = dependent_factors.measured(target, product_of(z=2), "", 0, True)
    assert found.gap == pytest.approx(0.2231, abs=0.03)
    assert found.bound == pytest.approx(-0.2231, abs=4 * found.error)
    monkeypatch.setattr(dependent_factors, "suited", lambda *_: None)
    first = Outcome(product_of(z=2), True, "Done.")
    steps = dependent_factors.escalate(target, first, 0, False)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert "0.23 nats between this bound and the evidence; jn.hvm()" in stop.value.value.status
    flat = native_target(two_bits, {"log_p": np.full((2, 2), -np.log(4.0))}, "double")
    assert dependent_factors.measured(flat, product_of(z=2), "", 0, True).gap == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(StopIteration) as stop:
        next(dependent_factors.escalate(flat, first, 0, False))
    assert stop.value.value is first


@pytest.mark.slow
def test_auto_finds_dependence_between_discrete_latents():
    fit = jn.fit(two_bits, {"log_p": LOG_P})
    assert fit.elbo.value == pytest.approx(0.0, abs=0.01)
    assert "Kept: hierarchical" in fit.status
    assert [row["kept"] for row in fit.outcome.stages] == [False, True]
    assert fit.summary()["max_corr"][["z[0]", "z[1]"]].to_numpy() == pytest.approx([-0.6, -0.6], abs=0.03)
    assert fit.check().verdict == "trusted"
    plain = jn.fit(two_bits, {"log_p": LOG_P}, jn.auto(escalate=False))
    assert plain.elbo.value == pytest.approx(-0.2231, abs=1e-3)
