"""`jn.explain`: what it says of each site, how it prints, that nothing is compiled; LaTeX that a parser accepts."""

import json
import re
from dataclasses import replace

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from matplotlib.mathtext import MathTextParser
from numpyro.distributions import constraints
from rich.console import Console

import jensen as jn
from jensen._auto import auto
from jensen._auto.auto import Auto
from jensen._auto.gaussian_steps import gaussian_steps
from jensen._explain.latex import symbol
from jensen._explain.plan import describe_chart, describe_support
from jensen._explain.plan.plan import _COLUMNS
from jensen._math.clock import programs_compiled
from tests.posteriors import SCHOOLS, counts, counts_data, schools
from tests.zoo import MODELS


@pytest.fixture(scope="module")
def plan():
    return jn.explain(schools, SCHOOLS)


def test_every_site_in_order(plan):
    assert [(row.site, row.kind, row.distribution) for row in plan.rows] == [
        ("mu", "latent", "Normal"),
        ("tau", "latent", "HalfCauchy"),
        ("z", "latent", "Normal"),
        ("theta", "deterministic", "-"),
        ("y", "observed", "Normal"),
    ]


def test_supports_shapes_plates_and_dependencies(plan):
    rows = {row.site: row for row in plan.rows}
    assert (rows["mu"].support, rows["tau"].support) == ("real", "positive")
    assert rows["mu"].plates == ()
    assert rows["z"].plates == ("school[8]",)
    assert rows["z"].shape == rows["y"].shape == (8,)
    assert rows["theta"].depends_on == rows["y"].depends_on == ("mu", "tau", "z")
    assert rows["mu"].depends_on == ()
    assert plan.dim == 10
    assert plan.num_observations == 8


def test_what_happens_to_each_site(plan):
    rows = {row.site: row.update for row in plan.rows}
    assert rows["mu"] == "Gaussian on the unconstrained space: no transform, 1 coordinate"
    assert rows["tau"] == "Gaussian on the unconstrained space: log transform, 1 coordinate"
    assert rows["z"] == "Gaussian on the unconstrained space: no transform, 8 coordinates"
    assert rows["theta"] == "computed from the draws"
    assert rows["y"] == "observed (data key 'y')"


def test_masks_and_factors_are_said():
    masked = jn.explain(MODELS["mask_method"].model, MODELS["mask_method"].data)
    assert "partly masked" in {row.site: row.update for row in masked.rows}["y"]
    factors = jn.explain(MODELS["factor_site"].model, MODELS["factor_site"].data)
    assert {row.site: row.update for row in factors.rows}["smooth"] == "added to the log joint"
    assert factors.num_observations == 0
    assert "no observed sites" in factors.title


def test_a_log_density_has_one_term():
    entry = MODELS["log_density_supports"]
    plan = jn.explain(entry.model, entry.data)
    assert [(row.site, row.kind, row.support) for row in plan.rows] == [
        ("p", "latent", "simplex"),
        ("rate", "latent", "positive"),
        ("log_density", "factor", "-"),
    ]
    assert plan.rows[-1].depends_on == ("p", "rate")
    assert plan.dim == 3
    assert plan.num_observations == 3


# ---- what auto will do ------------------------------------


def wide(y):
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Normal(0, 1))
        numpyro.sample("y", dist.StudentT(4.0, z, 1), obs=y)


def test_small_models_climb_and_get_full_rank(plan):
    text = " ".join(plan.method)
    assert "8 climbs" in text
    assert "D = 10 is within 300" in text
    assert "full-rank" in text
    assert "64 fresh" in text


def test_many_coordinates_get_mean_field_and_low_rank():
    text = " ".join(jn.explain(wide, {"y": np.zeros(301)}).method)
    assert "D = 301 is above 300" in text
    assert "mean-field" in text
    assert "rank 20" in text
    assert "full-rank" not in text
    assert "full-rank" in " ".join(jn.explain(wide, {"y": np.zeros(300)}).method)


def test_conjugate_models_get_coordinate_ascent_first():
    def normal(y):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        tau = numpyro.sample("tau", dist.Gamma(2, 1))
        numpyro.sample("y", dist.Normal(mu, tau**-0.5).expand([3]).to_event(1), obs=y)

    first, second, *rest = jn.explain(normal, {"y": np.ones(3)}).method
    assert first.startswith("Coordinate ascent: every block is conjugate")
    assert "within 0.05 nats of that bound, a Gaussian too" in second
    assert "8 climbs" in rest[0]


def test_the_steps_that_a_plan_prints_are_those_that_a_fit_takes(monkeypatch):
    taken, own = [], Auto.steps

    def recorded(step):
        def take(work):
            taken.append(step.name)
            return (yield from step.take(work))

        return replace(step, take=take, says=lambda: (f"Step: {step.name}.", *step.says()))

    def steps(self, *given):
        return tuple(map(recorded, own(self, *given)))

    def beside(self, *given, **options):
        return tuple(map(recorded, gaussian_steps(self, *given, **options)))

    monkeypatch.setattr(Auto, "steps", steps)
    monkeypatch.setattr(auto, "gaussian_steps", beside)
    data = {"y": np.array([0.3, -0.2, 1.0])}
    plan = jn.explain(heavy_tailed, data)
    shown = [said[6:-1] for said in plan.method if said.startswith("Step: ")]
    assert taken == []
    jn.fit(heavy_tailed, data)
    assert shown == taken == ["latents integrated out", "Gaussian", "climbs", "curvature", "full rank"]


def heavy_tailed(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.StudentT(4.0, mu, 1).expand([3]).to_event(1), obs=y)


def test_large_data_get_fewer_climbs():
    text = " ".join(jn.explain(counts, {k: np.tile(v, 4000) for k, v in counts_data().items()}).method)
    assert "2 climbs" in text
    assert "large" in text


def test_initial_values_are_mentioned():
    entry = MODELS["log_density_init"]
    assert "initial values" in " ".join(jn.explain(entry.model, entry.data).method)
    assert "initial values" not in " ".join(jn.explain(MODELS["log_density"].model).method)


def test_the_plan_is_what_auto_does(plan):
    fit = jn.fit(schools, SCHOOLS)
    assert len(fit.outcome.restarts) <= 8
    assert any(row["family"] == "full rank" for row in fit.outcome.stages)


# ---- printing ------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_zoo_prints_without_compiling(name):
    entry = MODELS[name]
    before = programs_compiled()
    with numpyro.validation_enabled(False):  # NumPyro itself evaluates checks of constant parameters
        plan = jn.explain(entry.model, entry.data)
        text, web = str(plan), plan._repr_html_()
        latex = plan.latex()
    assert programs_compiled() == before
    sites = [row.site for row in plan.rows]
    assert {row.site for row in plan.rows if row.kind == "latent"} == set(entry.latents)
    assert {row.site: row.shape for row in plan.rows if row.kind == "latent"} == entry.latents
    for site in sites:
        assert site in text
        assert site in web
    assert plan.title in text
    assert json.loads(json.dumps(plan.as_dict()))["dim"] == plan.dim
    assert_latex(latex)


def test_print_is_a_table_no_wider_than_its_console(plan):
    text = str(plan)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 160
    header = next(line for line in text.splitlines() if "depends on" in line)
    assert re.split(r"\s{2,}", header.strip()) == list(_COLUMNS)
    assert all(line == line.rstrip() for line in text.splitlines())


def test_rich_shows_it_in_a_narrow_terminal(plan):
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(plan)
    assert "theta" in console.export_text()


def test_names_that_look_like_markup():
    def model():
        numpyro.sample("a[bold]<b>", dist.Normal(0, 1))

    plan = jn.explain(model)
    assert "a[bold]<b>" in str(plan)
    assert "a[bold]&lt;b&gt;" in plan._repr_html_()
    assert "<b>&" not in plan._repr_html_()


def test_html_is_balanced(plan):
    tags = re.findall(r"<(/?)(\w+)", plan._repr_html_())
    stack = []
    for closing, tag in tags:
        if closing:
            assert stack.pop() == tag
        else:
            stack.append(tag)
    assert stack == []


# ---- words for supports ------------------------------------


@pytest.mark.parametrize(
    ("support", "words", "chart"),
    [
        (constraints.real, "real", "no transform"),
        (constraints.positive, "positive", "log transform"),
        (constraints.unit_interval, "interval (0, 1)", "logit transform"),
        (constraints.interval(-2.0, 5), "interval (-2, 5)", "scaled logit transform"),
        (constraints.interval(np.zeros(3), np.ones(3)), "interval (…, …)", "scaled logit transform"),
        (constraints.greater_than(1.5), "above 1.5", "log of the distance from the bound"),
        (constraints.less_than(0.0), "below 0", "log of the distance from the bound"),
        (constraints.simplex, "simplex", "stick breaking"),
        (constraints.ordered_vector, "ordered vector", "first value and log gaps"),
        (constraints.corr_cholesky, "corr cholesky", "partial correlations"),
        (constraints.independent(constraints.positive, 1), "positive", "log transform"),
        (constraints.circular, "circle (-π, π)", "scaled logit transform"),
        (constraints.l1_ball, "l1 ball", "NumPyro's transform of l1 ball"),
    ],
)
def test_words_for_supports(support, words, chart):
    assert describe_support(support) == words
    assert describe_chart(support) == chart


# ---- LaTeX ------------------------------------


def assert_latex(text):
    """Balanced environments and braces, and every line is mathematics that matplotlib's parser accepts."""
    assert text.startswith("\\begin{align*}\n")
    assert text.endswith("\n\\end{align*}")
    body = text.removeprefix("\\begin{align*}\n").removesuffix("\n\\end{align*}")
    parser = MathTextParser("path")
    for line in body.split(" \\\\\n"):
        bare = re.sub(r"\\[{}]", "", line)
        assert bare.count("{") == bare.count("}")
        assert len(re.findall(r"(?<!\\)&", line)) == 1
        plain = re.sub(r"(?<!\\)&", "", line).replace(r"\Bigl[", "[").replace(r"\Bigr]", "]")
        parser.parse(f"${plain}$")


def test_the_parser_refuses_broken_latex():
    for broken in ("\\begin{align*}\nx_{1 &= 2\n\\end{align*}", "\\begin{align*}\n\\oops &= 2\n\\end{align*}"):
        with pytest.raises((AssertionError, ValueError)):
            assert_latex(broken)


def test_latex_of_the_schools():
    latex = jn.explain(MODELS["eight_schools"].model, MODELS["eight_schools"].data).latex()
    lines = latex.split("\n")
    assert lines[1] == r"\mu &\sim \mathrm{Normal} \\"
    assert lines[3] == r"\theta_{i} \mid \mu, \tau &\sim \mathrm{Normal}, \quad i = 1, \dots, 3 \\"
    assert lines[4].startswith(r"y_{i} \mid \theta_{i} &\sim \mathrm{Normal}\quad \mathrm{(observed)}")
    product = r"\Bigl[ \prod_{i=1}^{3} p(\theta_{i} \mid \mu, \tau)\, p(y_{i} \mid \theta_{i}) \Bigr]"
    assert lines[5] == rf"p(\mu, \tau, \theta_{{1:3}}, y_{{1:3}}) &= p(\mu)\, p(\tau)\, {product} \\"
    assert lines[6].startswith(r"p(\mu \mid \theta, \tau) &= ")


def test_latex_of_crossed_plates_and_indexing():
    crossed = jn.explain(MODELS["crossed_plates"].model, MODELS["crossed_plates"].data).latex()
    assert r"y_{i, j} \mid a_{i}, b_{j} &\sim" in crossed
    assert r"\prod_{i=1}^{3} \prod_{j=1}^{4} p(y_{i, j} \mid a_{i}, b_{j})" in crossed
    indexed = jn.explain(MODELS["size_from_data"].model, MODELS["size_from_data"].data).latex()
    assert r"y_{j} \mid a_{1:3}" in indexed  # outside its plate a parent is written with its whole range


def test_symbols():
    assert symbol("theta") == r"\theta"
    assert symbol("θ") == r"\theta"
    assert symbol("x") == "x"
    assert symbol("log_rate") == r"\mathrm{log\_rate}"
    assert symbol("x&y") == r"\mathrm{x\&y}"  # which matplotlib's parser does not know
    parser = MathTextParser("path")
    for name in ("a/b", "rate%", "a#1", "a{b}", "a^b", "two words", "cost$"):
        parser.parse(f"${symbol(name)}$")


# ---- errors ------------------------------------


def test_errors_are_those_of_fit():
    with pytest.raises(jn.DataError, match="no argument 'sgima'"):
        jn.explain(schools, {**SCHOOLS, "sgima": 1.0})
    with pytest.raises(jn.ModelError, match="is a discrete vector"):
        jn.explain(lambda: numpyro.sample("k", dist.Multinomial(3, np.ones(3) / 3)))

    def moving(y):
        low = numpyro.sample("low", dist.Normal(0, 1))
        numpyro.sample("x", dist.Uniform(low, 5.0))
        numpyro.sample("y", dist.Normal(low, 1.0), obs=y)

    assert [row.site for row in jn.explain(moving, {"y": 1.0}).rows] == ["low", "x_base", "x", "y"]


def test_explaining_first_does_not_spoil_the_fit():
    entry = MODELS["bounds_from_data"]
    jn.explain(entry.model, entry.data)
    assert np.isfinite(jn.fit(entry.model, entry.data, "laplace").elbo.value)
