"""Printed equations read one way only: every index is there, one symbol means one thing, E[·] is over all of q."""

import warnings

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn
from jensen._explain.equations.printing import block_lines, latex_lines
from jensen._explain.equations.render import equations
from jensen._explain.latex import generative, symbols

U, V, Y = np.random.default_rng(0).normal(size=(3, 9))


def written(model, data):
    """(text, LaTeX) of all blocks."""
    found = equations(model, data)
    text = "\n".join(line.rstrip() for block in found.blocks for line in block_lines(block, 300))
    return text, "\n".join(line for block in found.latex_blocks for line in latex_lines(block))


# ---- indices ------------------------------------


def test_index_zero_of_a_vector_a_matrix_and_a_plate_is_printed():
    def model(u, v, y):
        b = numpyro.sample("b", dist.Normal(0, 2).expand([2]).to_event(1))
        W = numpyro.sample("W", dist.Normal(0, 2).expand([2, 3]).to_event(2))
        with numpyro.plate("g", 3):
            t = numpyro.sample("t", dist.Gamma(2, 2))
        c = numpyro.sample("c", dist.Normal(0, 5))
        with numpyro.plate("row", len(u)):
            numpyro.sample("y", dist.Normal(c + b[0] * u + b[1] * v + W[0, 0], 1 / jnp.sqrt(t[0])), obs=y)

    text, latex = written(model, {"u": U, "v": V, "y": Y})
    assert "mean = precision⁻¹ t_0 Σ_i (y_i - b_0 u_i - b_1 v_i - W_00)" in text
    assert "E[t_0] Σ_i (y_i - E[b_0] u_i - E[b_1] v_i - m^W_00)" in text
    assert r"b_{0}\, u_{i} - b_{1}\, v_{i} - W_{0, 0}" in latex
    assert r"\mathbb{E}[t_{0}]" in latex


def test_an_axis_of_length_one_has_no_index():
    def model(y):
        s = numpyro.sample("b", dist.Normal(0, 1).expand([1]).to_event(1))
        t = numpyro.sample("t", dist.Gamma(2, 2))
        numpyro.sample("y", dist.Normal(s[0], 1 / jnp.sqrt(t)), obs=1.2)

    text, _ = written(model, {"y": Y})
    assert "rate = 2 + (1.2 - b)²/2" in text
    assert "q(b) = Normal(m, s²)" in text


# ---- names ------------------------------------


def two(first, second):
    def model(y):
        mean, precision = numpyro.sample(first, dist.Normal(0, 1)), numpyro.sample(second, dist.Gamma(2.0, 2.0))
        with numpyro.plate("n", len(y)):
            numpyro.sample("y", dist.Normal(mean, 1 / jnp.sqrt(precision)), obs=y)

    return model


@pytest.mark.parametrize(
    ("first", "second", "heads"),
    [
        ("mu", "tau", ("q(mu) = Normal(m, s²)", "q(tau) = Gamma(a, b)")),
        ("m", "s", ("q(m) = Normal(mean, sd²)", "q(s) = Gamma(a, b)")),
        ("x", "s", ("q(x) = Normal(mean, sd²)", "q(s) = Gamma(a, b)")),
        ("a", "mean", ("q(a) = Normal(m, s²)", "q(mean) = Gamma(shape, rate)")),
        ("m", "mean", ("q(m) = Normal(mean_q, sd²)", "q(mean) = Gamma(a, b)")),
        ("b", "shape", ("q(b) = Normal(m, s²)", "q(shape) = Gamma(shape_q, rate)")),
    ],
)
def test_parameters_of_q_have_other_letters_than_sites(first, second, heads):
    text, _ = written(two(first, second), {"y": Y})
    for head in heads:
        assert head in text


def mixture(weights, means):
    def model(y):
        w = numpyro.sample(weights, dist.Dirichlet(np.ones(3)))
        with numpyro.plate("k", 3):
            mu = numpyro.sample(means, dist.Normal(0, 2))
        with numpyro.plate("n", len(y)):
            z = numpyro.sample("z", dist.Categorical(w))
            numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)

    return model


def test_greek_letters_and_their_names_in_text_and_latex():
    assert "φ_nk ∝ exp(E[log w_k]" in written(mixture("w", "mu"), {"y": Y})[0]
    text, latex = written(mixture("phi", "mu"), {"y": Y})
    assert "prob_nk ∝ exp(E[log phi_k]" in text
    assert r"\mathrm{prob}_{n, k} &\propto \exp\Bigl[\mathbb{E}[\log \phi_{k}]" in latex
    _, both = written(mixture("phi", "φ"), {"y": Y})  # two sites whose symbol would be the same
    assert r"\log \mathrm{phi}_{k}" in both
    assert r"q(\phi_{k})" in both
    assert r"\quad [\mathrm{phi}]" in both
    assert len(set(symbols(["phi", "φ", "x"]).values())) == 3
    structure = jn.explain(mixture("phi", "φ"), {"y": Y}).structure
    assert r"z_{j} \mid \mathrm{phi} &\sim" in generative(structure).replace("z_{n}", "z_{j}").replace("z_{i}", "z_{j}")


def test_operators_and_indices_give_way_to_sites():
    def model(y):
        e, i = numpyro.sample("E", dist.Beta(1, 1)), numpyro.sample("i", dist.Normal(0, 1))
        s = numpyro.sample("Σ", dist.Gamma(2, 2))
        numpyro.sample("v", dist.Bernoulli(e), obs=1)
        with numpyro.plate("row", len(y)), numpyro.plate("s", 2):
            numpyro.sample("y", dist.Normal(i, 1 / jnp.sqrt(s)), obs=jnp.stack([y, y]))

    letters = equations(model, {"y": Y}).indices
    text, _ = written(model, {"y": Y})
    assert not {"i", "s", "m", "a", "b"} & set(letters)
    assert "𝔼[Σ] ∑_" in text
    assert "E[" not in text


def test_a_letter_that_two_blocks_share_is_told_apart_in_vectors_too():
    def model(y):
        b = numpyro.sample("beta", dist.Normal(0, 1).expand([2]).to_event(1))
        a = numpyro.sample("intercept", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(a + b[0] * U + b[1] * V, 1.0).to_event(1), obs=y)

    text, _ = written(model, {"y": Y})
    assert "q(beta_d) = Normal(m^beta = S^beta h^beta, S^beta)" in text or "q(beta_e) = Normal(m^beta" in text
    assert "m^intercept" in text


# ---- expectations over the Gaussian latents of a hybrid fit ------------------------------------


def test_expectations_over_latents_with_a_gaussian_factor_are_written():
    def model(x, y, count):
        w, tau = numpyro.sample("w", dist.Normal(0, 1)), numpyro.sample("tau", dist.Gamma(2.0, 2.0))
        c, rate = numpyro.sample("c", dist.Normal(0, 1)), numpyro.sample("rate", dist.Gamma(1, 1))
        with numpyro.plate("n", len(y)):
            numpyro.sample("y", dist.Normal(jnp.exp(w * x) + c, 1 / jnp.sqrt(tau)), obs=y)
            numpyro.sample("count", dist.Poisson(rate * jnp.exp(w * x)), obs=count)

    text, latex = written(model, {"x": U, "y": Y, "count": np.arange(9)})
    update = text[text.index("q(tau)") : text.index("p(c |")]
    assert "E[exp(w x_n)²]/2" in update
    assert "E[exp(w x_n)] m" in update
    assert "+ Σ_n E[exp(w x_n)]" in text[text.index("q(rate)") :]
    assert "E[tau] Σ_n (y_n - E[exp(w x_n)])" in text
    assert "mean = precision⁻¹ tau Σ_n (y_n - exp(w x_n))" in text  # a conditional is at a point
    assert r"\mathbb{E}[\exp\left(w\, x_{n}\right)^{2}]" in latex


# ---- constants that are not finite, or huge ------------------------------------


def impossible(y):
    b = numpyro.sample("b", dist.Normal(0, 2))
    numpyro.factor("f", -jnp.inf * b**2 + jnp.inf * b)
    numpyro.factor("g", jnp.nan * b + 1e300 * b - 123456789012 * b)
    with numpyro.plate("n", len(y)):
        z = numpyro.sample("z", dist.Categorical(logits=jnp.array([0.0, -jnp.inf, 1.0])))
        numpyro.factor("rule", jnp.where((z == 2) & (y > 0), -jnp.inf, 0.0))
        numpyro.sample("y", dist.Normal(b * z, 1), obs=y)


def test_infinite_missing_and_huge_constants_are_written():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        plan = jn.explain(impossible, {"y": Y})
        text, latex = str(plan), plan.latex()
        plan.as_dict(), plan._repr_html_()
    assert "∞" in text
    assert "NaN" in text
    assert r"\infty" in latex

    def huge(y):
        b = numpyro.sample("b", dist.Normal(0, 2))
        numpyro.factor("g", 1e300 * b - 123456789012 * b**2)
        numpyro.sample("y", dist.Normal(b * 1e200, 1), obs=1.0)  # whose square is infinite

    text, latex = written(huge, {"y": Y})
    assert "1e+300" in text
    assert r"1 \cdot 10^{300}" in latex
    assert "2.46913578e+11" in text
