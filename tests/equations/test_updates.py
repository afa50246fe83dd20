"""What is printed is what is run: every printed equation, evaluated, is the engine's update; its words and signs."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from rich.console import Console

import jensen as jn
from jensen._conjugate.algebra import build_conjugate
from jensen._conjugate.coordinate.starts import random_start
from jensen._explain.equations import update as equations_update
from jensen._explain.equations.expression import Number
from jensen._explain.equations.notation import Notation
from jensen._explain.equations.printing import block_lines, latex_lines, text_lines
from jensen._explain.equations.render import equations
from jensen._explain.equations.update import values
from jensen._math.clock import programs_compiled
from tests.conjugacy.zoo import MIXTURE_X, ZOO
from tests.test_plan import assert_latex


def mixed_moments(model):
    """Moments of a mixture of two points, which no factor family has: every equation must hold there too."""
    first, second = (random_start(model, np.random.default_rng(i), seeds=False) for i in (1, 2))
    return jax.tree.map(lambda a, b: 0.3 * np.asarray(a) + 0.7 * np.asarray(b), first, second)


def gaps(found, model):
    """Largest relative gap between each printed parameter and the engine's."""
    moments = mixed_moments(model)

    @jax.jit
    def engine(model, moments):
        factors = {name: model.factor(name, model.message(name, moments)) for name in found.updates}
        return {
            name: [e.parameter.read(factors[name]) for e in update.equations] for name, update in found.updates.items()
        }

    result = {}
    for name, expected in jax.device_get(engine(model, moments)).items():
        printed = values(found.updates[name], moments)
        for equation, array in zip(found.updates[name].equations, expected, strict=True):
            given = printed[equation.parameter.name]
            assert given.shape == array.shape
            result[name, equation.parameter.name] = float(np.max(np.abs(given - array) / (1.0 + np.abs(array))))
    return result


@pytest.mark.parametrize("name", ZOO)
def test_printed_equations_are_the_engines_updates(name, built):
    found = equations(*ZOO[name])
    assert found.conjugate
    assert list(found.updates) == list(built(name).blocks)
    assert max(gaps(found, built(name)).values()) < 1e-10


def test_joint_blocks_too():
    for name, blocks in [
        ("normal_gamma_joint_prior", [("mu", "tau")]),
        ("intercept_and_slope", [("a", "b")]),
        ("two_discrete_sites", [("first", "second")]),
    ]:
        model = build_conjugate(*ZOO[name], blocks=blocks)
        assert max(gaps(equations(*ZOO[name], blocks=blocks), model).values()) < 1e-10


def test_a_planted_error_in_a_term_is_seen(built, monkeypatch):
    monkeypatch.setattr(equations_update, "scaled", lambda e, c: equations_update.product([e], 1.01 * c))
    assert max(gaps(equations(*ZOO["normal_gamma"]), built("normal_gamma")).values()) > 1e-3


# ---- what they say ------------------------------------


def unit_mixture(x, sigma, K):
    with numpyro.plate("component", K):
        mu = numpyro.sample("mu", dist.Normal(0, sigma))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(np.ones(K) / K))
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)


def lines_of(found, width=100):
    return "\n".join(line.rstrip() for block in found.blocks for line in block_lines(block, width))


def test_the_unit_mixture_in_its_classic_form():
    text = " ".join(lines_of(equations(unit_mixture, {"x": MIXTURE_X, "sigma": 3.0, "K": 2})).split())
    assert "q(c_i) = Categorical(φ_ik) φ_ik ∝ exp(m_k x_i - (m²_k + s²_k)/2) [x]" in text
    assert "q(mu_k) = Normal(m_k, s²_k) 1/s²_k = 1/sigma² [mu] + Σ_i φ_ik [x] m_k = s²_k Σ_i φ_ik x_i [x]" in text
    assert "p(c_i = k) ∝ exp(mu_k x_i - mu_k²/2)" in text
    assert "precision = 1/sigma² + Σ_i [c_i = k]" in text


def test_usual_parameters_squares_and_traces():
    text = lines_of(equations(*ZOO["diagonal_mixture"]))
    for part in (
        "q(tau_kd) = Gamma(a_kd, b_kd)",
        "+ Σ_i φ_ik E[(x_id - mu_kd)²]/2",
        "Σ_d (E[log tau_kd] - E[tau_kd] E[(x_id - mu_kd)²])/2",
        "rate = 1 + Σ_i [c_i = k] (x_id - mu_kd)²/2",
        "q(weights_k) = Dirichlet(α_k)",
    ):
        assert part in text
    lines = [line for line in text.splitlines() if line.startswith(("    α_k", "        + Σ_i φ_ik"))]
    assert lines[0].endswith("[weights]")
    assert lines[1].endswith("[c]")


def test_indices_by_lookup_and_several_blocks_of_one_family():
    text = lines_of(equations(*ZOO["hierarchical"]))
    assert "Σ_j E[(y_j - b[group_j])²]/2" in text
    assert "E[within⁻¹] Σ_j [i = group_j] y_j" in text
    assert "s²^mu" in text
    assert "Wishart(ν_k, R⁻¹)" in lines_of(equations(*ZOO["full_mixture"]))


@pytest.mark.parametrize("name", ZOO)
def test_every_model_is_written_at_any_width_and_in_latex(name):
    found = equations(*ZOO[name])
    for width in (80, 120):
        assert max(map(len, text_lines(found, width))) <= width
    for block in found.latex_blocks:
        for line in latex_lines(block):
            assert_latex("\\begin{align*}\n" + line + "\n\\end{align*}")


def test_numbers_are_read_as_fractions():
    notation = Notation({}, {}, frozenset())
    assert [notation.write(Number(v)) for v in (1 / 9, 0.25, -2 / 3, 15.0, 0.1234567)] == [
        "1/9",
        "0.25",
        "-2/3",
        "15",
        "0.123457",
    ]


# ---- through jn.explain ------------------------------------


def test_a_model_with_discrete_latents_is_explained_without_compiling():
    before = programs_compiled()
    with numpyro.validation_enabled(False):
        plan = jn.explain(*ZOO["full_mixture"])
        text, web = str(plan), plan._repr_html_()
    assert programs_compiled() == before
    assert 'method="cavi": every block below' in text
    assert "q(c_i) = Categorical(φ_ik)" in text
    assert "q(c_i) = Categorical(φ_ik)" in web
    blocks = plan.as_dict()["equations"]["blocks"]
    assert [b["block"] for b in blocks] == ["weights", "mu", "precision", "c"]
    assert blocks[0]["update"][0]["terms"] == [{"site": "weights", "term": "2"}, {"site": "c", "term": "Σ_i φ_ik"}]
    assert_latex(plan.latex())


def test_it_fits_the_terminal():
    plan = jn.explain(*ZOO["diagonal_mixture"])
    for width in (80, 120):
        console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(plan)
        assert max(map(len, console.export_text().splitlines())) <= width


def logistic(X, y):
    precision = numpyro.sample("precision", dist.Gamma(2.0, 1.0))
    w = numpyro.sample("w", dist.Normal(0, precision**-0.5).expand([2]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=X @ w).to_event(1), obs=y)


def test_what_is_not_conjugate_has_its_term_line_and_remedy():
    data = {"X": np.eye(3, 2), "y": np.array([0, 1, 1])}
    plan = jn.explain(logistic, data)
    (obstacle,) = plan.equations.obstacles
    assert obstacle.site == "y"
    assert "log(1 + exp(.))" in obstacle.what
    assert "test_updates.py line" in obstacle.where
    assert "Bernoulli(logits=X @ w)" in obstacle.where
    assert "Pólya-Gamma" in obstacle.remedy
    assert "not wholly conjugate" in str(plan)
    assert "Gamma(a, b)" in str(plan)  # the conjugate block has its equations all the same
    assert plan.as_dict()["equations"]["not_conjugate"][0]["site"] == "y"


def test_half_cauchy_and_several_powers_say_what_to_do():
    def model(y):
        s = numpyro.sample("s", dist.HalfCauchy(1.0))
        numpyro.sample("y", dist.Normal(0, s).expand([3]).to_event(1), obs=y)

    (obstacle,) = jn.explain(model, {"y": np.ones(3)}).equations.obstacles
    assert "mixture of inverse gammas" in obstacle.remedy
