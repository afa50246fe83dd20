"""Data that are not in memory: memory-mapped arrays, batches and ragged rows through `jn.fit`, and what is refused."""

import subprocess
import sys

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

import jensen as jn
from jensen._math.clock import programs_compiled
from jensen._math.programs import Program

RNG = np.random.default_rng(8)
X = RNG.permutation(RNG.normal(size=60) + np.repeat([-2.0, 2.0], 30))
METHOD = jn.svi(batch_size=20, max_epochs=6)


def mixture(x):
    with numpyro.plate("component", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
    numpyro.deterministic("gap", mu[1] - mu[0])
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(np.ones(2) / 2))
        numpyro.deterministic("loc", mu[c])
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)


def read(x=X, size=20):
    return ({"x": x[i : i + size]} for i in range(0, len(x), size))


@pytest.fixture(scope="module")
def held():
    return jn.fit(mixture, {"x": X}, METHOD)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    array = np.memmap(tmp_path_factory.mktemp("data") / "x", dtype=float, mode="w+", shape=60)
    array[:] = X
    return array


@pytest.fixture(scope="module")
def streamed(mapped):
    return jn.fit(mixture, {"x": mapped}, METHOD)


# ---- the same answer, and the same account of it ----


def test_what_a_fit_of_rows_on_disk_says_is_what_one_in_memory_says(held, streamed):
    assert streamed.elbo.value == pytest.approx(held.elbo.value, rel=1e-10)
    np.testing.assert_allclose(streamed.pool.log_joint, held.pool.log_joint, rtol=1e-9)
    np.testing.assert_allclose(streamed.pool.weights, held.pool.weights, rtol=1e-6)
    assert streamed.check().verdict == held.check().verdict
    assert streamed.check().khat == pytest.approx(held.check().khat, abs=1e-6)
    assert streamed.evidence().log_evidence == pytest.approx(held.evidence().log_evidence, abs=1e-8)
    names = ["mu[0]", "mu[1]"]
    for column in ("mean", "sd", "q5"):
        np.testing.assert_allclose(streamed.summary().loc[names, column], held.summary().loc[names, column], rtol=1e-5)
    assert set(streamed.sample(3)) == {"mu", "gap"}  # nothing that depends on rows
    assert "integrated out exactly" in " ".join(streamed.check().reasons)


def test_what_needs_every_row_is_refused_with_a_remedy(streamed):
    assert streamed.predict({"x": np.zeros(4)}, num_draws=7)["x"].shape == (7, 4)
    with pytest.raises(jn.UndefinedError, match=r"fit\.predict\(new_data\)"):
        streamed.predict()
    with pytest.raises(jn.UndefinedError, match="in memory"):
        streamed.decompose()
    tree = streamed.to_arviz(num_draws=10)
    assert set(tree.children) == {"posterior"}
    assert "row" not in tree["posterior"].coords


def test_saved_and_attached_to_a_source_or_to_arrays(streamed, mapped, tmp_path):
    streamed.save(tmp_path / "fit.jn")
    loaded = jn.load(tmp_path / "fit.jn")
    assert loaded.check().verdict == streamed.check().verdict
    assert loaded.summary().equals(streamed.summary())
    for data in ({"x": mapped}, jn.Batches(read), {"x": X}):
        fit = loaded.attach(mixture, data)
        np.testing.assert_array_equal(fit.q.means()["mu"], streamed.q.means()["mu"])
    assert fit.sample(2, raw=True)["c"].shape == (2, 60)  # with arrays in memory the rows are there again


def test_batches_and_the_default_method(held):
    fit = jn.fit(mixture, jn.Batches(read), "auto")
    assert fit.converged
    assert fit.status.startswith("The data come in batches: svi.")
    assert fit.elbo.value == pytest.approx(held.elbo.value, abs=1e-3 * 60)
    assert [row.site for row in jn.explain(mixture, jn.Batches(read)).rows][:2] == ["mu", "gap"]


def test_data_that_are_read_once_establish_nothing():
    fit = jn.fit(mixture, jn.Batches(read(), size=60), METHOD)
    assert not fit.converged
    assert fit.elbo.se > 0
    report = fit.check()
    assert report.verdict == "untrusted"
    assert "read once only" in report.reasons[0]
    assert "read again" in report.remedy
    assert np.isnan(fit.evidence().log_evidence)
    assert list(fit.summary().index) == ["mu[0]", "mu[1]", "gap"]
    part = jn.fit(mixture, jn.Batches(read(), size=90), METHOD)
    assert "60 of the 90 rows" in part.status


def test_interrupted_steps_keep_what_there_is(mapped):
    def stop(item):
        if item.phase == "minibatch":
            raise KeyboardInterrupt

    fit = jn.fit(mixture, {"x": mapped}, METHOD, progress=stop)
    assert "Interrupted" in fit.status
    assert np.isfinite(fit.elbo.value)
    assert fit.check().verdict != "trusted"


def test_a_second_fit_compiles_and_traces_nothing(mapped, streamed, monkeypatch):
    jn.fit(mixture, {"x": mapped}, METHOD).check()
    traced = []
    find = Program._find
    monkeypatch.setattr(Program, "_find", lambda self, *a: traced.append(self.fn) or find(self, *a))
    before = programs_compiled()
    other = np.memmap(mapped.filename, dtype=float, mode="r", shape=60)
    fit = jn.fit(mixture, {"x": other}, METHOD)
    assert programs_compiled() == before
    assert not traced
    assert fit.timings["programs"] == 0


def test_a_second_fit_of_streamed_rows_in_memory_traces_nothing(monkeypatch):
    x = np.tile(X, 84)  # more rows than are held at once
    jn.fit(mixture, {"x": x}, "cavi")
    traced = []
    find = Program._find
    monkeypatch.setattr(Program, "_find", lambda self, *a: traced.append(self.fn) or find(self, *a))
    fit = jn.fit(mixture, {"x": x + 0.1}, "cavi")
    assert not traced
    assert fit.timings["programs"] == 0


def test_single_precision(mapped, streamed):
    fit = jn.fit(mixture, {"x": mapped}, METHOD, precision="single")
    single, double = (np.asarray(f.q.means()["mu"]) for f in (fit, streamed))
    assert single.dtype == np.float32
    apart = np.sort(single) - np.sort(double)  # the labels are arbitrary
    assert np.abs(apart).max() < 0.02 * streamed.summary(["mu"])["sd"].min()
    assert fit.elbo.value == pytest.approx(streamed.elbo.value, abs=0.05)
    assert fit.check().verdict == streamed.check().verdict


# ---- what is refused ----


@pytest.mark.parametrize("method", ["cavi", "advi", "laplace", "bbvi"])
def test_other_methods_say_that_they_need_all_rows(method):
    with pytest.raises(jn.OptionError, match=r"needs all rows at once.*method='svi'"):
        jn.fit(mixture, jn.Batches(read), method)


def test_parameters_are_not_learned_from_batches():
    with pytest.raises(jn.OptionError, match="not learned"):
        jn.fit(mixture, jn.Batches(read), "svi", learn=["mu"])


def counts(y):
    with numpyro.plate("kind", 2):
        rate = numpyro.sample("rate", dist.Gamma(1, 1))
    with numpyro.plate("row", len(y)):
        k = numpyro.sample("k", dist.Categorical(np.ones(2) / 2))
        numpyro.sample("y", dist.Poisson(rate[k]), obs=y)


def classes(y, group):
    bias = numpyro.sample("bias", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("kind", 2):
        p = numpyro.sample("p", dist.Dirichlet(np.ones(3)))
    with numpyro.plate("row", len(y)):
        k = numpyro.sample("k", dist.Categorical(np.ones(2) / 2))
        numpyro.sample("level", dist.Normal(bias[group], 1.0), obs=0.0 * y)
        numpyro.sample("y", dist.Categorical(p[k]), obs=y)


COUNTS, ZEROS = np.arange(8) % 4, np.zeros(8, int)
BAD = [
    (mixture, {"x": X[:8]}, {"x": np.where(np.arange(8) == 3, np.nan, X[:8])}, ["'x'", "missing", "row 3 of batch 1"]),
    (mixture, {"x": X[:8]}, {"x": np.where(np.arange(8) == 5, np.inf, X[:8])}, ["'x'", "infinite", "row 5 of batch 1"]),
    (mixture, {"x": X[:8]}, {"y": X[:8]}, ["'y'", "batch 1"]),
    (mixture, {"x": X[:8]}, {"x": X[:8, None]}, ["batch 1"]),
    (counts, {"y": COUNTS}, {"y": COUNTS - 1}, ["'y'", "support of Poisson", "row 0 of batch 1"]),
    (
        classes,
        {"y": COUNTS % 3, "group": ZEROS},
        {"y": COUNTS, "group": ZEROS},
        ["'y'", "support of Categorical", "row 3 of batch 1"],
    ),
    (
        classes,
        {"y": COUNTS % 3, "group": ZEROS},
        {"y": COUNTS % 3, "group": ZEROS + 2},
        ["'group' gives 8 indices outside 0..1", "row 0 of batch 1", "bias[group]"],
    ),
]


@pytest.mark.parametrize(("model", "good", "bad", "words"), BAD, ids=[" ".join(case[3][:2]) for case in BAD])
def test_a_later_batch_is_checked_like_the_first(model, good, bad, words):
    with pytest.raises((jn.DataError, jn.ModelError)) as caught:
        jn.fit(model, jn.Batches([good, bad]), "svi")
    for word in words:
        assert word in str(caught.value)


def test_rows_on_disk_are_named_by_their_own_number(tmp_path):
    array = np.memmap(tmp_path / "y", dtype=int, mode="w+", shape=40)
    array[37] = -1
    with pytest.raises(jn.DataError, match=r"'y' lie outside.*first at row 37"):
        jn.fit(counts, {"y": array}, jn.svi(batch_size=10))


def test_an_iterable_that_ends_or_does_not_match_its_size():
    once = read()
    with pytest.raises(jn.DataError, match=r"yields 0 rows, but there are 60.*fresh iterable"):
        jn.fit(mixture, jn.Batches(lambda: once, size=60), "svi")
    for size in (50, 70):
        with pytest.raises(jn.DataError, match=f"yields 60 rows, but there are {size}"):
            jn.fit(mixture, jn.Batches(read, size=size), "svi")
    with pytest.raises(jn.DataError, match="yielded 60 rows, but size is 50"):
        jn.fit(mixture, jn.Batches(read(), size=50), "svi")
    with pytest.raises(jn.OptionError, match="batch_size is 61, but there are 60 rows"):
        jn.fit(mixture, {"x": X}, jn.svi(batch_size=61))


# ---- batches that cannot stand for all rows ----


def centred(x):
    mixture(x - x.mean())


def scaled_by_hand(x):
    with numpyro.plate("component", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("row", len(x)), handlers.scale(scale=60 / len(x)):
        c = numpyro.sample("c", dist.Categorical(np.ones(2) / 2))
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)


def prior_by_size(x):
    with numpyro.plate("component", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 30 / len(x)))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(np.ones(2) / 2))
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)


def outside(x):
    mu = numpyro.sample("mu", dist.Normal(0, 3).expand([2]).to_event(1))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(np.ones(2) / 2))
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)
    numpyro.sample("again", dist.Normal(mu[0], 9).expand([len(x)]).to_event(1), obs=x)


def running(x):
    with numpyro.plate("component", 2):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(np.ones(2) / 2))
        numpyro.sample("x", dist.Normal(mu[c], 1), obs=np.cumsum(np.ones(1)) + x - 0.1 * x[::-1])


@pytest.mark.parametrize(
    ("model", "site"),
    [
        (centred, "'x' is no sum"),
        (scaled_by_hand, "'c' is no sum"),
        (running, "'x' is no sum"),
        (prior_by_size, "'mu' stands outside"),
        (outside, "'again' stands outside"),
    ],
)
def test_rows_that_do_not_add_up_are_refused(model, site):
    data = {"x": X} if model is centred else jn.Batches(read, size=60)
    with pytest.raises(jn.ModelError) as caught:
        jn.fit(model, data, METHOD)
    assert site in str(caught.value)
    assert "test_sources.py line" in str(caught.value)


def words(word, count):
    with numpyro.plate("topic", 2):
        phi = numpyro.sample("phi", dist.Dirichlet(np.full(4, 0.5)))
    with numpyro.plate("document", word.shape[0], dim=-2):
        theta = numpyro.sample("theta", dist.Dirichlet(np.ones(2)))
        with numpyro.plate("entry", word.shape[1], dim=-1):
            z = numpyro.sample("z", dist.Categorical(theta))
            numpyro.sample("w", dist.Categorical(phi[z]), obs=word)


def test_padded_entries_that_count_are_refused():
    entries = {"word": RNG.integers(0, 4, 30), "count": np.ones(30, int)}
    source = jn.Ragged(entries, row=np.repeat(np.arange(10), 3), batch_size=5, lengths=1)
    with pytest.raises(jn.ModelError, match=r"Padded entries count in '[zw]'.*handlers.mask"):
        jn.fit(words, source, "svi")


def test_a_plate_whose_size_is_written_down(held):
    def fixed(x, n):
        with numpyro.plate("component", 2):
            mu = numpyro.sample("mu", dist.Normal(0, 3))
        with numpyro.plate("row", n):
            c = numpyro.sample("c", dist.Categorical(np.ones(2) / 2))
            numpyro.sample("x", dist.Normal(mu[c], 1), obs=x)

    fit = jn.fit(fixed, {"x": X, "n": 60}, METHOD)
    assert fit.elbo.value == pytest.approx(held.elbo.value, rel=1e-9)
    with pytest.raises(jn.DataError, match="Make the shapes agree"):
        jn.fit(fixed, {"x": X, "n": 50}, METHOD)


# ---- memory ----

PEAK = """
import sys, threading, time
import numpy as np, numpyro, numpyro.distributions as dist
import jensen as jn

def mixture(x):
    with numpyro.plate("component", 3):
        mu = numpyro.sample("mu", dist.Normal(0, 5).expand([8]).to_event(1))
    with numpyro.plate("row", len(x)):
        c = numpyro.sample("c", dist.Categorical(np.ones(3) / 3))
        numpyro.sample("x", dist.Normal(mu[c], 1).to_event(1), obs=x)

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

method = {"svi": jn.svi(batch_size=4096, max_epochs=2), "cavi": jn.cavi(max_sweeps=2, restarts=1), "auto": "auto"}
method = method[sys.argv[2]]
jn.fit(mixture, {"x": np.random.default_rng(0).normal(size=(9000, 8))}, method)
x = np.load(sys.argv[1], mmap_mode="r")
before, peak, done = anonymous(), [0.0], []

def watch():
    while not done:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)

thread = threading.Thread(target=watch)
thread.start()
fit = jn.fit(mixture, {"x": x}, method)
done.append(True)
thread.join()
print(x.nbytes / 2**20, peak[0] - before, np.isfinite(fit.elbo.value))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["svi", "cavi", "auto"])
def test_rows_on_disk_are_in_memory_once_at_most(method, tmp_path):
    """320 MB on disk: `svi` holds batches and one permutation of the rows; other methods one copy, and 200 MB."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(5_000_000, 8)) + rng.choice([-3.0, 0.0, 3.0], (5_000_000, 1)))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "x.npy"), method]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    size, grown, finite = done.stdout.split()
    assert finite == "True"
    assert float(grown) < (150 if method == "svi" else float(size) + 200)


def test_param_sites_in_named_batches_are_refused_in_a_sentence():
    def learned(x, y):
        scale = numpyro.param("s", 1.0, constraint=dist.constraints.positive)
        b = numpyro.sample("b", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(b * x, scale).to_event(1), obs=y)

    rows = [{"x": np.arange(4.0), "y": np.arange(4.0)}] * 2
    with pytest.raises(jn.ModelError, match="param site 's'"):
        jn.fit(learned, jn.Batches(lambda: iter(rows), size=8), "auto", progress=False)
