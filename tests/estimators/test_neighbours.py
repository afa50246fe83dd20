"""Neighbours averaged out: their statistics have mean zero, interpolation is exact in them, gradients stay unbiased."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from jensen._bounds import ELBO
from jensen._core import total
from jensen._estimators import Blanket, Mixed, Regressed, Reparameterised
from jensen._estimators.neighbours import _slopes, _weights, averaged, neighbours, without
from jensen._families import native
from jensen._math.precision import working
from jensen._math.programs import quick_options
from jensen._program.dependence import links
from tests.estimators.enumeration import exact_elbo, grid, nodes
from tests.estimators.native_factors import FACTORS

KNOWN = {name: factor for name, factor in FACTORS.items() if factor.interpolated}
DRAWS, GRADIENTS, CHUNK = 24, 40_000, 4_000


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


@pytest.fixture(scope="module")
def looked():
    """Family -> (means of its statistics, how often q puts them there, interpolants less what they should be)."""

    def first(factor):
        return jax.tree.map(lambda leaf: leaf[:1], factor)

    def one(factor, points, measure, draws):
        mass = measure * jnp.exp(jax.vmap(factor.log_prob)(points)[:, 0])
        statistics = jax.vmap(factor.statistics)(points)[:, 0]
        at = factor.nodes()
        weights = _weights(factor, _slopes({"z": factor}, {"z": at})["z"], draws)[:, 0]  # (draws, nodes)
        known = jnp.concatenate([jnp.ones((len(at), 1)), jax.vmap(factor.statistics)(at)[:, 0]], axis=1)
        wanted = jnp.concatenate([jnp.zeros((len(draws), 1)), jax.vmap(factor.statistics)(draws)[:, 0]], axis=1)
        return mass @ statistics, mass @ statistics**2, weights @ known - wanted

    with working("double"):
        factors = {name: first(factor) for name, factor in KNOWN.items()}
        given = {}
        for name, factor in factors.items():
            points, measure = nodes(factor)
            given[name] = jnp.asarray(points)[:, None], jnp.asarray(measure)

        def everything(factors, given):
            return {name: one(f, *given[name], given[name][0][3:60:3]) for name, f in factors.items()}

        return jax.device_get(jax.jit(everything, compiler_options=quick_options())(factors, given))


@pytest.mark.parametrize("name", KNOWN)
def test_statistics_have_mean_zero_and_are_interpolated_exactly(looked, name):
    mean, square, error = looked[name]
    assert np.abs(mean / np.sqrt(square)).max() < 1e-6, (mean, square)
    assert np.abs(error).max() < 1e-9


def test_a_node_outside_the_support_leaves_the_entry_alone():
    """θ is above every observation with certainty, though not at every node."""
    zero = jnp.array(0.0)
    q = native.Product({"theta": native.Gamma(zero, jnp.array(0.5)), "x": native.Normal(zero, zero)})

    def terms(values):
        theta, x = values["theta"], values["x"]
        return {"near": jnp.where(theta > 0.5, theta * x, -jnp.inf), "far": theta * x}

    values = {"theta": jnp.array([0.9, 1.2]), "x": jnp.array([0.3, -0.4])}
    known = links(lambda z: terms(z), {"theta": jnp.array(0.0), "x": jnp.array(0.0)}, {"theta": (), "x": ()})
    found = averaged(q, terms, values, known, ["theta"])["theta"]
    np.testing.assert_array_equal(found["near"], 0.0)
    np.testing.assert_allclose(found["far"], (values["theta"] - 1.0) * values["x"], rtol=1e-12)


class Rates(eqx.Module):
    """Counts whose rates share a shape, each through a link that is `bent` away from the conjugate one."""

    bent: float

    def log_joint(self, latent, batch=None):
        shape, rate, count = latent["shape"], latent["rate"], latent["count"].astype(float)
        return {
            "shape": 3.0 * jnp.log(shape) - 2.0 * shape,
            "rate": (shape - 1.0) * jnp.log(rate) - 0.4 * rate + 0.2 * shape,
            "count": count * jnp.log(rate) - rate - self.bent * jnp.sin(count) * rate,
            "y": -0.5 * (count - jnp.array([2.0, 3.0])) ** 2,
        }


def setting(bent):
    """(model, q, links) of two rows."""
    q = native.Product(
        {
            "shape": native.Gamma(jnp.array(0.5), jnp.array(1.5)),
            "rate": native.Gamma(jnp.array([0.6, 0.9]), jnp.array([1.2, 1.0])),
            "count": native.NegativeBinomial(jnp.array([0.5, 0.8]), jnp.array([1.0, 1.5])),
        }
    )
    model = Rates(bent)
    values = {name: jax.eval_shape(factor.sample, jr.key(0)) for name, factor in q.factors.items()}
    return model, q, links(model.log_joint, values, {name: f.rows for name, f in q.factors.items()})


def test_the_draws_of_conjugate_neighbours_do_not_matter():
    """What a rate's gradient sees is the same whatever counts and shape were drawn; so the terms that are left say."""
    model, q, found = setting(0.0)
    assert neighbours(q, found, "rate") == ["shape", "count"]
    assert neighbours(q, found, "count") == ["rate"]
    values = {name: jax.vmap(f.sample)(jr.split(jr.key(1), 2)) for name, f in q.factors.items()}
    same = {**values, "rate": jnp.broadcast_to(values["rate"][:1], values["rate"].shape)}

    def slope(rate):
        def terms(values):
            return jax.vmap(model.log_joint)(values)

        moved = {**same, "rate": rate}
        return total(without(terms(moved), averaged(q, terms, moved, found, ["shape", "count"])))

    first, second = jax.jit(jax.grad(slope))(same["rate"])
    np.testing.assert_allclose(first, second, rtol=1e-10)


class Path(eqx.Module):
    """Three states, each seen, in one site; `bent` takes the steps away from what a gamma state is conjugate to."""

    bent: float

    def log_joint(self, latent, batch=None):
        state = latent["state"]
        before = jnp.concatenate([jnp.ones(1), state[:-1]])
        step = 2.0 * jnp.log(state) - 3.0 * state / before**self.bent - 3.0 * self.bent * jnp.log(before)
        return {"state": step, "y": -0.5 * (state - jnp.array([0.7, 1.1, 1.6])) ** 2}


def chain(bent):
    """(model, q, links) of the path."""
    q = native.Product({"state": native.Gamma(jnp.array([-0.2, 0.1, 0.3]), jnp.array([1.8, 1.4, 2.0]))})
    model = Path(bent)
    return model, q, links(model.log_joint, {"state": jnp.ones(3)}, {"state": (3,)})


def test_the_draws_of_other_states_of_a_chain_do_not_matter():
    """Quadratic steps of normal states: the slope in an even state is the same for all odd ones, and the other way."""
    q = native.Product(
        {"x": native.Normal(jnp.array([0.3, -0.5, 0.2, 0.8, 0.1]), jnp.array([-0.4, 0.1, 0.2, 0.0, -0.3]))}
    )

    def terms(values):
        x = values["x"]
        return {"x": -((x[1:] - 0.7 * x[:-1]) ** 2), "y": -0.3 * (x - 1.0) ** 2}

    found = links(terms, {"x": jnp.zeros(5)}, {"x": (5,)})
    assert neighbours(q, found, "x") == ["x"]
    first, second = jr.normal(jr.key(2), (2, 5))
    odd = jnp.arange(5) % 2 == 1

    def slope(x):
        def quiet(x):
            stacked = {"x": x[None]}
            each = jax.vmap(terms)
            return total(without(each(stacked), averaged(q, each, stacked, found, ["x"])))

        return jax.grad(quiet)(x)

    slopes = jax.jit(jax.vmap(slope))(jnp.stack([first, jnp.where(odd, second, first), second]))
    np.testing.assert_allclose(slopes[0][~odd], slopes[1][~odd], rtol=1e-10)
    np.testing.assert_allclose(slopes[2][odd], slopes[1][odd], rtol=1e-10)


@functools.cache
def sampled_chain():
    """Mean and error of the gradients of a path, by leaf, a million draws, and the exact gradient by quadrature."""
    model, q, found = chain(0.8)
    estimator = Mixed({"state": Reparameterised(stick=True, controls=True, neighbours=found)}, DRAWS)

    def some(key):
        g = jax.vmap(lambda k: jax.grad(lambda q: estimator(ELBO(), model, q, None, k))(q))(jr.split(key, CHUNK))
        return jax.tree.map(lambda x: jnp.stack([x.mean(0), (x**2).mean(0)]), g)

    run = jax.jit(some)
    parts = [jax.device_get(run(jr.fold_in(jr.key(5), i))) for i in range(GRADIENTS // CHUNK)]
    leaves = [np.mean(leaf, axis=0) for leaf in zip(*map(jax.tree.leaves, parts), strict=True)]
    return [(mean, np.sqrt((square - mean**2) / GRADIENTS)) for mean, square in leaves]


@pytest.mark.slow
@pytest.mark.parametrize("moved", [0.0, 0.02])
def test_gradients_of_a_chain_are_unbiased(moved):
    """Six coordinates: a false alarm in 0.04 % of keys; the key is fixed. Means 2 % larger are told apart."""
    model, q, _ = chain(0.8)
    there = q.with_factor("state", native.Gamma(q.factors["state"].log_mean + moved, q.factors["state"].log_shape))
    points, measure = grid(q, 80)
    exact = jax.jit(jax.grad(lambda q: exact_elbo(q, lambda z: total(model.log_joint(z)), points, measure)))(there)
    pairs = zip(sampled_chain(), jax.tree.leaves(jax.device_get(exact)), strict=True)
    z = np.concatenate([(mean - truth) / error for (mean, error), truth in pairs])
    assert (np.abs(z).max() < 4) == (moved == 0.0), z


@functools.cache
def sampled():
    """Leaf by leaf the gradient's mean and its error, from a million draws; the coupling is not a conjugate one."""
    model, q, found = setting(0.3)
    recipe = Reparameterised(stick=True, neighbours=found)
    estimator = Mixed({"shape": recipe, "rate": recipe, "count": Regressed(Blanket(found), found)}, DRAWS)

    def some(key):
        g = jax.vmap(lambda k: jax.grad(lambda q: estimator(ELBO(), model, q, None, k))(q))(jr.split(key, CHUNK))
        return jax.tree.map(lambda x: jnp.stack([x.mean(0), (x**2).mean(0)]), g)

    run = jax.jit(some)
    parts = [jax.device_get(run(jr.fold_in(jr.key(5), i))) for i in range(GRADIENTS // CHUNK)]
    leaves = [np.mean(leaf, axis=0) for leaf in zip(*map(jax.tree.leaves, parts), strict=True)]
    return [(mean, np.sqrt((square - mean**2) / GRADIENTS)) for mean, square in leaves]


def scores(q):
    """z-scores of the gradients' means against the exact gradient at q, by quadrature over one row at a time."""
    model = Rates(0.3)

    def exact(q):
        out = -q.factors["shape"].entropy()  # which both rows count
        for row in range(2):
            part = native.Product({n: _row(f, row) if f.rows else f for n, f in q.factors.items()})
            points, measure = grid(part, 40)

            def log_p(latent, row=row):
                terms = model.log_joint(
                    {n: v if n == "shape" else jnp.broadcast_to(v, (2,)) for n, v in latent.items()}
                )
                return 0.5 * terms.pop("shape") + sum(term[row] for term in terms.values())

            out = out + exact_elbo(part, log_p, points, measure)
        return out

    want = jax.tree.leaves(jax.device_get(jax.jit(jax.grad(exact))(q)))
    found = [(mean - truth) / error for (mean, error), truth in zip(sampled(), want, strict=True)]
    return np.concatenate([z.reshape(-1) for z in found])


def _row(factor, row):
    return jax.tree.map(lambda leaf: leaf[row : row + 1], factor)


@pytest.mark.slow
def test_gradients_are_unbiased():
    """Ten coordinates: a false alarm in 0.06 % of keys; the key is fixed."""
    z = scores(setting(0.3)[1])
    assert len(z) == 10
    assert np.abs(z).max() < 4, z


@pytest.mark.slow
def test_a_bias_of_two_per_cent_would_be_seen():
    """Against the gradient at rates that are 2 % larger."""
    q = setting(0.3)[1]
    rate = q.factors["rate"]
    moved = q.with_factor("rate", native.Gamma(rate.log_mean + 0.02, rate.log_shape))
    assert np.abs(scores(moved)).max() > 4
