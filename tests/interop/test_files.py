"""Saved fits: what comes back, what it can do without its model, and files that are not what they should be."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest

import jensen as jn
from jensen._fit.saving import FORMAT, VERSION
from tests.posteriors import (
    METHODS,
    conjugate,
    conjugate_data,
    counts,
    counts_data,
    fitted,
    logistic,
    logistic_data,
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fits")


def saved(folder, model, method="auto"):
    path = folder / f"{model}-{method}.jn"
    if not path.exists():
        fitted(model, method).save(path)
    return path


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("counts", "auto"),
        ("banana", "auto"),
        ("logistic", "mean_field"),
        ("counts", "pathfinder"),
        ("schools", "laplace"),
    ],
)
def test_round_trip(folder, model, method):
    fit = fitted(model, method)
    again = jn.load(saved(folder, model, method))
    assert type(again.q) is type(fit.q)
    for name, value in vars(fit.q).items():
        np.testing.assert_array_equal(getattr(again.q, name), value)
    for name in ("method", "seed", "status", "converged", "elbo", "history", "timings"):
        assert getattr(again, name) == getattr(fit, name), name
    assert again.options == {k: v for k, v in fit.options.items() if isinstance(v, (int, float, str, bool, type(None)))}
    assert again.check() == fit.check()
    assert again.outcome.certificate == fit.outcome.certificate
    assert again.outcome.restarts == fit.outcome.restarts
    assert list(again.outcome.stages) == list(fit.outcome.stages)
    assert again.evidence() == fit.evidence()
    assert again.pool.ess == again.pool.half  # draws of q at weight 0, corrected draws at equal weights
    for raw in (False, True):
        assert again.summary(raw=raw).equals(fit.summary(raw=raw))
    assert again.structure.coordinate_names() == fit.structure.coordinate_names()
    for name, site in fit.structure.sites.items():
        other = again.structure.sites[name]
        assert (other.kind, other.shape, other.dims, other.plates) == (site.kind, site.shape, site.dims, site.plates)


def test_draws_without_the_model_are_the_pools(folder):
    again = jn.load(saved(folder, "counts"))
    draws = again.sample(500, seed=2)
    assert set(draws) == {"slope", "tau", "effect", "rate_ratio"}
    assert draws["effect"].shape == (500, 6)
    np.testing.assert_allclose(draws["rate_ratio"], np.exp(draws["slope"]))
    reference = again.summary()
    # 500 draws: 5 standard errors are 0.22 sd
    assert abs(draws["slope"].mean() - reference.loc["slope", "mean"]) < 0.25 * reference.loc["slope", "sd"]


def test_to_arviz_without_the_model(folder):
    tree = jn.load(saved(folder, "counts")).to_arviz(100)
    assert tree["posterior"]["effect"].dims == ("chain", "draw", "group")
    assert "log_likelihood" not in tree.children


def test_what_needs_the_model_says_how_to_attach_it(folder):
    again = jn.load(saved(folder, "counts"))
    for call in (again.predict, again.decompose, lambda: again.approximation):
        with pytest.raises(jn.UndefinedError, match="needs its model") as caught:
            call()
        assert "attach(model, data)" in str(caught.value)


def test_attached_it_does_everything_again(folder):
    fit, again = fitted("counts"), jn.load(saved(folder, "counts")).attach(counts, counts_data())
    np.testing.assert_array_equal(again.sample(20)["slope"], fit.sample(20)["slope"])
    assert again.decompose() == fit.decompose()
    np.testing.assert_array_equal(again.predict(num_draws=10)["y"], fit.predict(num_draws=10)["y"])
    assert "log_likelihood" in again.to_arviz(20).children
    np.testing.assert_allclose(
        again.approximation.log_prob({k: v[0] for k, v in again.sample(1).items() if k != "rate_ratio"}),
        fit.approximation.log_prob({k: v[0] for k, v in fit.sample(1).items() if k != "rate_ratio"}),
    )


def test_a_second_save_is_the_same(folder, tmp_path):
    again = jn.load(saved(folder, "counts"))
    again.save(tmp_path / "again.jn")
    third = jn.load(tmp_path / "again.jn")
    assert third.check() == again.check()
    np.testing.assert_array_equal(third.sample(5)["slope"], again.sample(5)["slope"])


@pytest.mark.parametrize(
    ("model", "data", "site"),
    [
        (logistic, logistic_data(), "slope"),
        (conjugate, conjugate_data(), "slope"),
        ("counts_of_five", None, "effect"),
    ],
)
def test_another_model_is_not_attached(folder, model, data, site):
    if model == "counts_of_five":
        import numpyro
        import numpyro.distributions as dist

        def model(x, group, y):
            numpyro.sample("slope", dist.Normal(0, 1))
            numpyro.sample("tau", dist.HalfNormal(1))
            with numpyro.plate("group", 5):
                numpyro.sample("effect", dist.Normal(0, 1))

        data = counts_data()
    with pytest.raises(jn.OptionError, match=f"does not match the saved fit at site '{site}'"):
        jn.load(saved(folder, "counts")).attach(model, data)


def test_a_model_with_more_latents_is_not_attached(folder):
    import numpyro
    import numpyro.distributions as dist

    def wider(x, y):
        numpyro.sample("extra", dist.Normal(0, 1))
        conjugate(x, y)

    with pytest.raises(jn.OptionError, match="extra"):
        jn.load(saved(folder, "conjugate")).attach(wider, conjugate_data())


# ---- files that are something else ------------------------------------


class Hostile:
    """Unpickling it makes a directory."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_cannot_run_code(tmp_path):
    mark = tmp_path / "mark"
    (tmp_path / "evil.jn").write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(jn.SavedFitError):
        jn.load(tmp_path / "evil.jn")
    assert not mark.exists()


@pytest.mark.parametrize("where", ["header", "q/loc", "pool/weights", "draws/slope", "anything"])
def test_a_pickle_inside_the_file_cannot_run_code(folder, tmp_path, where):
    mark = tmp_path / "mark"
    with np.load(saved(folder, "counts")) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays[where] = np.array([Hostile(mark)], dtype=object)
    np.savez(tmp_path / "evil.npz", **arrays)
    with pytest.raises(jn.SavedFitError):
        jn.load(tmp_path / "evil.npz")
    assert not mark.exists()


def test_the_planted_pickle_is_hostile(tmp_path):
    pickle.loads(pickle.dumps(Hostile(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_a_missing_file(tmp_path):
    with pytest.raises(jn.SavedFitError, match="no such file") as caught:
        jn.load(tmp_path / "none.jn")
    assert "none.jn" in str(caught.value)
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("keep", [0, 1, 100, 0.3, 0.9, -1])
def test_a_truncated_file(folder, tmp_path, keep):
    content = saved(folder, "counts").read_bytes()
    length = int(keep * len(content)) if isinstance(keep, float) else keep
    (tmp_path / "cut.jn").write_bytes(content[:length])
    with pytest.raises(jn.SavedFitError):
        jn.load(tmp_path / "cut.jn")


def test_a_damaged_file(folder, tmp_path):
    content = bytearray(saved(folder, "counts").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    (tmp_path / "bad.jn").write_bytes(bytes(content))
    with pytest.raises(jn.SavedFitError):
        jn.load(tmp_path / "bad.jn")


def _foreign(path, kind):
    if kind == "text":
        path.write_text("x,y\n1,2\n")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, x=np.zeros(3))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello.txt", "hello")
    elif kind == "other format":
        _with_header(path, {"format": "something-else", "version": 1})
    elif kind == "list":
        _with_header(path, [1, 2, 3])
    elif kind == "not json":
        with path.open("wb") as file:
            np.savez(file, header=np.frombuffer(b"{oops", np.uint8))
    elif kind == "header only":
        _with_header(path, {"format": FORMAT, "version": VERSION})
    elif kind == "folder":
        path.mkdir()


def _with_header(path, header):
    with path.open("wb") as file:
        np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8))


@pytest.mark.parametrize(
    "kind", ["text", "npy", "npz", "zip", "other format", "list", "not json", "header only", "folder"]
)
def test_a_foreign_file(tmp_path, kind):
    path = tmp_path / "file.jn"
    _foreign(path, kind)
    with pytest.raises(jn.SavedFitError) as caught:
        jn.load(path)
    assert "file.jn" in str(caught.value)


def _changed_header(source, target, **changes):
    with np.load(source) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(bytes(arrays["header"]))
    header.update(changes)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with target.open("wb") as file:
        np.savez(file, **arrays)


def test_a_newer_version_asks_for_an_update(folder, tmp_path):
    _changed_header(saved(folder, "counts"), tmp_path / "new.jn", version=VERSION + 1)
    with pytest.raises(jn.SavedFitError, match=f"version {VERSION + 1}, newer than {VERSION}.*Update jensen"):
        jn.load(tmp_path / "new.jn")


@pytest.mark.parametrize("changes", [{"version": "one"}, {"answer": "os.system"}, {"structure": None}, {"elbo": 3}])
def test_a_header_that_makes_no_sense(folder, tmp_path, changes):
    _changed_header(saved(folder, "counts"), tmp_path / "odd.jn", **changes)
    with pytest.raises(jn.SavedFitError):
        jn.load(tmp_path / "odd.jn")


def test_every_method_can_be_saved(tmp_path):
    for method in METHODS:
        fitted("logistic", method).save(tmp_path / f"{method}.jn")
        assert jn.load(tmp_path / f"{method}.jn").method == fitted("logistic", method).method


def test_paths_may_be_strings(tmp_path):
    fitted("logistic").save(str(tmp_path / "a.jn"))
    assert jn.load(str(tmp_path / "a.jn")).elbo == fitted("logistic").elbo
