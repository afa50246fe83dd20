"""Values read off a pytree: one program outside of a trace, inline inside, in the precision of the arrays."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jensen._math.precision import working
from jensen._math.programs import Program
from jensen._math.readout import readout


class Scaled(eqx.Module):
    values: jax.Array
    power: int = eqx.field(static=True)

    @property
    @readout
    def normed(self):
        """x**p / Σ x**p."""
        raised = self.values**self.power
        return raised / jnp.sum(raised)


def test_a_readout_keeps_the_precision_of_the_arrays():
    with working("double"):
        scaled = Scaled(jnp.array([1.0, 2.0, 3.0]), 3)
    with working("single"):
        assert scaled.normed.dtype == np.float64
    np.testing.assert_allclose(scaled.normed, np.array([1.0, 8.0, 27.0]) / 36.0, rtol=1e-15)


def test_equal_readouts_share_a_program(monkeypatch):
    with working("double"):
        Scaled(jnp.array([1.0, 2.0, 3.0, 4.0]), 2).normed  # noqa: B018  (compiles)
        made = []
        find = Program._find
        monkeypatch.setattr(Program, "_find", lambda self, *a: made.append(None) or find(self, *a))
        np.testing.assert_allclose(Scaled(jnp.array([2.0, 0.0, 0.0, 0.0]), 2).normed, [1.0, 0.0, 0.0, 0.0])
        assert not made


def test_inside_a_trace_it_is_part_of_the_program_and_differentiable():
    with working("double"):
        slope = jax.grad(lambda v: Scaled(v, 1).normed[0])(jnp.array([1.0, 3.0]))
        np.testing.assert_allclose(slope, [3.0 / 16.0, -1.0 / 16.0], rtol=1e-12)
