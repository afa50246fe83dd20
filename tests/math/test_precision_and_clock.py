"""The working precision leaves the user's flag alone; the clock counts what XLA compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jensen._math.clock import Stopwatch, programs_compiled
from jensen._math.precision import default_precision, float_type, working


@pytest.fixture(params=[False, True])
def flag(request):
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize(("precision", "dtype"), [("double", jnp.float64), ("single", jnp.float32)])
def test_inside_the_context_arrays_have_the_working_precision_and_afterwards_the_users(flag, precision, dtype):
    users = jnp.float64 if flag else jnp.float32
    with working(precision):
        assert jnp.zeros(1).dtype == dtype
        assert jax.jit(lambda: jnp.ones(2) / 3)().dtype == dtype
        with working("single"):
            assert jnp.zeros(1).dtype == jnp.float32
        assert jnp.zeros(1).dtype == dtype
    assert jnp.zeros(1).dtype == users
    assert jax.config.jax_enable_x64 is flag
    assert float_type(precision) is dtype.dtype.type


def test_the_flag_comes_back_after_an_error(flag):
    with pytest.raises(ZeroDivisionError), working("double"):
        raise ZeroDivisionError
    assert jnp.zeros(1).dtype == (jnp.float64 if flag else jnp.float32)


def test_the_default_is_double_on_a_cpu_and_single_elsewhere(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert default_precision() == "double"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert default_precision() == "single"


def test_the_clock_counts_programs_and_splits_the_time():
    watch, before = Stopwatch(), programs_compiled()
    with working("double"):
        program = jax.jit(lambda x: jnp.sin(x).sum() * 1.25)
        program(np.ones(17))
        compiled = programs_compiled()
        assert compiled > before
        program(np.zeros(17))
    assert programs_compiled() == compiled
    read = watch.read()
    assert read["programs"] == compiled - before
    assert read["total"] == pytest.approx(read["compile"] + read["run"])
    assert read["compile"] > 0
    assert read["run"] >= 0
    assert Stopwatch().read()["programs"] == 0
