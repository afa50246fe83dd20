"""Plots show what they say they show, and become files with something on them."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.image import imread

import jensen as jn
from jensen._report import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def test_files_have_something_on_them(schools, tmp_path):
    before, open_before = dict(mpl.rcParams), plt.get_fignums()
    written = plots.save(schools, tmp_path / "new" / "folder")
    assert [path.stem for path in written] == ["bound_trace", "marginals", "pareto", "pairs"]
    for path in written:
        pixels = imread(path)[..., :3]
        assert min(pixels.shape[:2]) > 400
        assert pixels.std() > 0.05
        assert (pixels.reshape(-1, 3) < 0.99).any(axis=1).mean() > 0.005
        coloured = np.ptp(pixels, axis=2) > 0.2
        assert coloured.sum() > 500
    assert plt.get_fignums() == open_before
    assert dict(mpl.rcParams) == before


def test_bound_trace_has_a_line_for_every_phase(schools):
    figure = plots.bound_trace(schools)
    search, bounds = figure.axes
    phases = list(dict.fromkeys(row["phase"] for row in schools.history))
    assert phases[0] == "climbing"
    assert [text.get_text() for text in bounds.get_legend().get_texts()] == phases[1:]
    heights = search.lines[0].get_ydata()
    assert heights.max() == 0.0
    assert len(heights) == sum(row["phase"] == "climbing" for row in schools.history)
    assert "nats" in search.get_ylabel()
    assert "nats" in bounds.get_ylabel()
    assert f"{schools.elbo.value:,.2f}" in bounds.get_title("left")


def test_marginals_put_q_beside_the_corrected_draws(schools):
    assert schools.check().verdict == "usable"
    figure = plots.marginals(schools, ["tau", "mu"])
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in panels] == ["tau", "mu"]
    assert [len(axes.lines) for axes in panels] == [2, 2]
    assert {"importance-corrected draws", "draws of q itself"} <= set(texts(figure))
    for axes, name in zip(panels, ("tau", "mu"), strict=True):
        mean = schools.summary().loc[name, "mean"]
        low, high = axes.get_xlim()
        assert low < mean < high
        x, y = axes.lines[0].get_data()
        assert abs(np.trapezoid(x * y, x) / np.trapezoid(y, x) - mean) < 0.15 * schools.summary().loc[name, "sd"]


def test_what_is_left_out_is_said(schools):
    assert "Posterior marginals  (12 of 18 scalars)" in texts(plots.marginals(schools))
    assert any("5 of 18 scalars" in text for text in texts(plots.pairs(schools)))
    with pytest.raises(jn.OptionError, match="no site 'nu'"):
        plots.marginals(schools, ["nu"])


def test_pareto_shows_both_estimates(schools):
    left, right = plots.pareto(schools).axes
    report = schools.check()
    shown = {text.get_text() for text in right.texts}
    assert shown == {f"{report.khat:.2f}", f"{report.khat_corrected:.2f}"}
    for line in left.lines[:2]:
        assert (np.diff(line.get_ydata()) <= 0).all()


def test_pairs_are_labelled_and_need_two(schools, hostile):
    figure = plots.pairs(schools, ["mu", "tau"])
    labels = {axes.get_xlabel() for axes in figure.axes} | {axes.get_ylabel() for axes in figure.axes}
    assert {"mu", "tau"} <= labels
    cloud = next(c for axes in figure.axes for c in axes.collections)
    assert len(cloud.get_offsets()) == plots.POINTS
    with pytest.raises(jn.OptionError, match="at least two scalars"):
        plots.pairs(hostile)


def test_a_single_scalar_and_equal_weights(hostile, tmp_path):
    assert [path.stem for path in plots.save(hostile, tmp_path)] == ["bound_trace", "marginals", "pareto"]
    right = plots.pareto(hostile).axes[1]
    assert any("equal" in text.get_text() for text in right.texts) == np.isneginf(hostile.check().khat)


def test_a_fit_from_a_file_has_the_same_plots(schools, tmp_path):
    schools.save(tmp_path / "f.jn")
    loaded = jn.load(tmp_path / "f.jn")
    first, second = plots.pareto(schools), plots.pareto(loaded)
    for a, b in zip(first.axes, second.axes, strict=True):  # the file keeps fewer draws, and the verdict on all of them
        assert a.get_title() == b.get_title()
        assert len(a.lines) == len(b.lines)
    assert loaded.check() == schools.check()
    assert len(plots.save(loaded, tmp_path)) == 4
