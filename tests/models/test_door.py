"""What goes in as data: tables, masks, missing values, labels, and arrays that a program may not write to."""

import gzip
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse

import jensen as jn
from jensen._cli.data_file import read_data
from jensen._data.data_check import convert
from jensen._model.door import read

Y = np.array([1.0, 2.0, 3.0])
HIDDEN = np.ma.array([1.0, 2.0, 9.0], mask=[0, 0, 1])


def normal_mean(y):
    numpyro.sample("y", dist.Normal(numpyro.sample("mu", dist.Normal(0, 10)), 1), obs=y)


def fitted(model, data, method="laplace", **options):
    return jn.fit(model, data, method, progress=False, **options)


def mean(fit, site="mu"):
    return fit.summary().loc[site, "mean"]


def column(value, precision="double"):
    return convert({"y": value}, precision)["y"]


# ---- masks ---------------------------------------------------------------------------------------------------------


class MakesMasked:
    def __array__(self, dtype=None, copy=None):
        return HIDDEN


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (HIDDEN, "'y', first at row 2"),
        ([HIDDEN, np.ma.array(Y)], r"first at index \(0, 2\)"),
        ([1.0, np.ma.masked], "first at row 1"),
        (np.array([Y, HIDDEN, None], dtype=object)[:2], r"first at index \(1, 2\)"),
        (np.ma.masked_invalid([1.0, np.nan]), "row 1"),
        (np.ma.array(3.0, mask=True), "the scalar"),
        (np.ma.array([0, 1], mask=[1, 0]), "row 0"),
        (MakesMasked(), "row 2"),
    ],
)
def test_what_a_mask_hides_is_no_data(value, where):
    with pytest.raises(jn.DataError, match=rf"'y' is a masked array.*{where}.*compressed"):
        column(value)


def test_masks_are_seen_wherever_data_go_in():
    fit = fitted(normal_mean, {"y": Y}, "cavi")
    for attempt in (
        lambda: fitted(lambda d: normal_mean(d["y"]), {"d": {"y": HIDDEN}}),
        lambda: jn.explain(normal_mean, {"y": HIDDEN}),
        lambda: fit.predict({"y": HIDDEN}),
        lambda: fit.infer({"y": HIDDEN}),
        lambda: fit.attach(normal_mean, {"y": HIDDEN}),
        lambda: fitted(normal_mean, jn.Batches([{"y": HIDDEN}]), "svi"),
        lambda: jn.Ragged({"y": HIDDEN}, [0, 1, 2]),
        lambda: jn.Ragged({"y": Y}, [0, 1, 2], rows={"y": HIDDEN}),
    ):
        with pytest.raises(jn.DataError, match=r"'(d\.)?y' is a masked array"):
            attempt()
    assert column(np.ma.array(Y)).tolist() == Y.tolist()


# ---- columns and tables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (pd.Series([1, 2], dtype="Int64"), [1, 2]),
        (pd.Series([1, None], dtype="Int64"), [1.0, np.nan]),
        (pd.Series([True, False], dtype="boolean"), [True, False]),
        (pd.Series([1.5, None], dtype="Float64"), [1.5, np.nan]),
        (pd.Series([1, None], dtype="int64[pyarrow]"), [1.0, np.nan]),
        (pd.Series([0, 1, 0], dtype="category"), [0, 1, 0]),
        (pd.Series([0, None, 1], dtype=pd.CategoricalDtype([0, 1])), [0.0, np.nan, 1.0]),
        (pd.DataFrame({"a": [1, 2], "b": pd.array([None, 2], "Int64")}), [[1.0, np.nan], [2.0, 2.0]]),
        (pa.array([1, 2, None]), [1.0, 2.0, np.nan]),
        (np.array([1, 2.5, None], dtype=object), [1.0, 2.5, np.nan]),
        (np.array([1, 2], dtype=object), [1, 2]),
        ([Decimal("1.5"), jnp.asarray(2.0)], [1.5, 2.0]),
        (scipy.sparse.csr_matrix(np.eye(2)), np.eye(2)),
        (np.arange(3, dtype=">i4"), [0, 1, 2]),
        (jnp.array([0.5, 2.0], jnp.bfloat16), [0.5, 2.0]),
    ],
)
def test_columns_mean_what_they_say(value, wanted):
    array = column(value)
    np.testing.assert_array_equal(array, wanted)
    assert array.dtype.kind == np.asarray(wanted).dtype.kind
    assert array.dtype.isnative


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pd.Series(["a", "b"], dtype="category"), "categorical column with the categories 'a', 'b'.*codes"),
        (pd.Categorical([1, 2]), "categories 1, 2, which are not the numbers 0..K-1"),
        (np.array([1, "2"], dtype=object), "entry of type str .'2'., which is no number.*first at row 1"),
        ([1, 2**70], "beyond 64 bits.*first at row 1"),
        (np.array([1, 2**63], dtype=np.uint64), "beyond 64 bits.*first at row 1"),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), r"fields one by one, y\['a'\]"),
        (pd.Series(pd.date_range("2020", periods=2, tz="UTC")), "entry of type Timestamp"),
        ((i for i in range(3)), "entry of type generator"),
    ],
)
def test_columns_without_numbers_are_refused_by_key(value, message):
    with pytest.raises(jn.DataError, match=f"'y'.*{message}"):
        column(value)


def test_single_precision_loses_nothing_in_silence():
    for value, what in ((np.array([1, 2**40]), "beyond 32 bits"), (np.array([1.0, 1e300]), "infinite as float32")):
        with pytest.raises(jn.DataError, match=rf"'y' holds.*{what}.*row 1.*precision='double'"):
            column(value, "single")


def test_tables_are_data():
    record = np.array([(v,) for v in Y], dtype=[("y", float)])
    for table in (pd.DataFrame({"y": Y}), pa.table({"y": Y}), record):
        assert mean(fitted(normal_mean, table)) == pytest.approx(6 / 3.01, abs=1e-3)
    fit = fitted(normal_mean, pd.DataFrame({"y": Y}), "cavi")
    assert fit.predict(pd.DataFrame({"y": Y}), num_draws=2)["y"].shape == (2,)
    assert jn.explain(normal_mean, pd.DataFrame({"y": Y})).dim == 1
    assert fit.attach(normal_mean, pd.DataFrame({"y": Y})).structure.dim == 1
    with pytest.raises(jn.DataError, match="2 columns named 'y'"):
        fitted(normal_mean, pd.DataFrame(np.ones((2, 2)), columns=["y", "y"]))


@pytest.mark.parametrize("data", [{"y": Y}, pd.DataFrame({"y": Y}), jn.Batches([{"y": Y}])])
def test_model_and_data_swapped(data):
    for run in (jn.fit, jn.explain):
        with pytest.raises(jn.ModelError, match=r"model and data are swapped.*model first"):
            run(data, normal_mean)


# ---- labels and indices that came as floats ------------------------------------------------------------------------


def categories(y):
    p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Categorical(p), obs=y)


def ordered(y):
    cut = numpyro.sample("cut", dist.Normal(0, 1).expand([2]).to_event(1))
    numpyro.sample("y", dist.OrderedLogistic(jnp.zeros(len(y)), jnp.cumsum(jnp.exp(cut))), obs=y)


def coins(y):
    numpyro.sample("y", dist.Bernoulli(logits=numpyro.sample("b", dist.Normal(0, 1))), obs=y)


def counts(y):
    numpyro.sample("y", dist.Poisson(numpyro.sample("rate", dist.Gamma(1, 1))), obs=y)


def groups(y, g):
    m = numpyro.sample("m", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(m[g], 1), obs=y)


LABELS = np.array([0.0, 1, 2, 1, 0, 2, 2, 1])


@pytest.mark.parametrize("method", ["cavi", "laplace"])
def test_whole_floats_are_labels(method):
    p = fitted(categories, {"y": LABELS}, method).sample(4000)["p"].mean(0)
    np.testing.assert_allclose(p, np.array([3, 4, 4]) / 11, atol=0.02)


def test_truth_values_are_labels():
    p = fitted(categories, {"y": LABELS == 1}).sample(4000)["p"].mean(0)
    np.testing.assert_allclose(p, np.array([6, 4, 1]) / 11, atol=0.02)


def test_whole_floats_are_labels_inside_mappings_and_indices_too():
    assert read(lambda d: categories(d["y"]), {"d": {"y": LABELS}}, "double")["d"]["y"].dtype.kind == "i"
    assert read(ordered, {"y": LABELS}, "double")["y"].dtype.kind == "i"
    assert read(counts, {"y": LABELS}, "double")["y"].dtype.kind == "f"  # whose density takes them as they are
    fit = fitted(groups, {"y": np.ones(3), "g": np.array([0.0, 2.0, 2.0])})
    np.testing.assert_allclose(fit.summary()["mean"], [1 / 2, 0, 2 / 3], atol=1e-3)
    plain = jn.LogDensity(lambda z, g: -0.5 * jnp.sum((z["m"][g] - 1.0) ** 2) - 0.5 * jnp.sum(z["m"] ** 2), {"m": 3})
    fit = fitted(plain, {"g": np.array([0.0, 2.0, 2.0])})
    np.testing.assert_allclose(fit.summary()["mean"], [1 / 2, 0, 2 / 3], atol=1e-3)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (categories, {"y": np.where(LABELS == 2, 1.5, LABELS)}, "'y' holds 1.5.*first at row 2"),
        (categories, {"y": np.where(LABELS == 2, np.nan, LABELS)}, "'y' holds a missing value.*first at row 2"),
        (categories, {"y": LABELS + 1}, "3 values of 'y' lie outside.*first at row 2"),
        (ordered, {"y": LABELS + 0.5}, "'y' holds 0.5.*row 0"),
        (coins, {"y": np.array([0.0, 1.0, 0.5])}, "1 values of 'y' lie outside Boolean.*row 2"),
        (counts, {"y": np.array([0.0, 1.5])}, "1 values of 'y' lie outside.*row 1"),
        (groups, {"y": np.ones(2), "g": np.array([0.0, 1.5])}, "'g' holds 1.5.*row 1"),
        (groups, {"y": np.ones(2), "g": np.array([0.0, np.nan])}, "'g' holds a missing value.*row 1"),
    ],
)
def test_fractions_are_no_labels(model, data, message):
    with pytest.raises(jn.DataError, match=message):
        fitted(model, data, "auto")
    with pytest.raises(jn.DataError, match=message):
        jn.explain(model, data)


# ---- arrays as the program gets them -------------------------------------------------------------------------------


def adds(y):
    y = np.asarray(y)
    y += 1
    normal_mean(y)


def sorts(y):
    y = np.asarray(y)
    y.sort()
    normal_mean(y)


def shuffles(y):
    np.random.default_rng(0).shuffle(np.asarray(y))
    normal_mean(y)


def clips(d):
    y = np.asarray(d["y"])
    np.clip(y, 0, 1, out=y)
    normal_mean(y)


def fills(y):
    y[:2].fill(0.0)
    normal_mean(y)


def puts(y):
    np.put(y, [0], 2.0)
    normal_mean(y)


def clips_itself(y):
    y.clip(0, 1, out=y)
    normal_mean(y)


@pytest.mark.parametrize("model", [adds, sorts, shuffles, clips, fills, puts, clips_itself])
def test_a_model_that_writes_into_its_data_is_told_which(model):
    y = np.array([3.0, 1.0, 2.0])
    data = {"d": {"y": y}} if model is clips else {"y": y}
    for method in ("cavi", "laplace"):
        with pytest.raises(jn.JensenError, match=r"writes into its data, '[yd]'"):
            fitted(model, data, method)
    assert y.tolist() == [3.0, 1.0, 2.0]


def discards_the_sorted(y):
    y.sort()
    normal_mean(y)


def discards_the_set(y):
    y.at[0].set(0.0)
    normal_mean(y)


def test_a_change_that_is_thrown_away_is_no_change():
    for model, words in ((discards_the_sorted, r"y = jnp.sort\(y\)"), (discards_the_set, r"y = y.at\[0\].set")):
        with pytest.raises(jn.ModelError, match=f"leaves the result alone.*{words}"):
            fitted(model, {"y": Y})


def test_a_host_function_that_writes_into_its_data_is_told_which():
    def outside(z, y):
        y *= 2.0
        return -0.5 * float(np.sum((y - z["mu"]) ** 2))

    y = Y.copy()
    with pytest.raises(jn.DataError, match="writes into its data, 'y'"):
        fitted(jn.LogDensity(outside, {"mu": ()}, differentiable=False), {"y": y}, "bbvi")
    assert y.tolist() == Y.tolist()


def test_the_users_array_is_not_the_models():
    y = np.array([1, 2, 3])
    fit = fitted(lambda y: normal_mean(1.0 * y), {"y": y})
    before = fit.predict(num_draws=3)["y"]
    y[:] = 1000
    np.testing.assert_array_equal(fit.predict(num_draws=3)["y"], before)


def both_ways(X, y):
    """Needs concrete arrays for a size, and JAX's ways with arrays elsewhere."""
    k = int(np.asarray(y).max() > 0) + 1
    w = numpyro.sample("w", dist.Normal(0, 1).expand([k]).to_event(1))
    X *= 1.0
    shift = X.at[0, 0].set(w[0]).sum() * 0.0 + X.clip(w[0] * 0.0 - 9.0, None).sum() * 0.0
    rows = jax.lax.map(lambda i: X[i].dot(w), jnp.arange(len(y)))
    numpyro.sample("y", dist.Normal(rows + shift, 1), obs=y)


def test_fixed_arrays_can_do_what_jax_arrays_can():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    y = X @ [1.0, -1.0] + rng.normal(size=30)
    fit = fitted(both_ways, {"X": X, "y": y})
    wanted = np.linalg.solve(X.T @ X + np.eye(2), X.T @ y)
    np.testing.assert_allclose(fit.summary()["mean"], wanted, atol=1e-3)
    assert fit.predict(num_draws=2)["y"].shape == (2, 30)
    assert jn.explain(both_ways, {"X": X, "y": y}).dim == 2


def table(log_p):
    with numpyro.plate("bit", 2):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.factor("table", log_p[z[0], z[1]] + 2 * jnp.log(2.0))


@pytest.mark.slow
def test_a_table_indexed_by_latents():
    log_p = {"log_p": jnp.log(jnp.array([[0.1, 0.4], [0.4, 0.1]]))}
    z = fitted(table, log_p, "auto").sample(8000)["z"]
    assert (z[:, 0] != z[:, 1]).mean() == pytest.approx(0.8, abs=0.03)
    assert "z" in str(jn.explain(table, log_p))


# ---- missing values ------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(1, 1, 25)
X[::5] = np.nan
Z = np.random.default_rng(1).normal(0, 1, 25)


def imputed(x):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    hole = np.nonzero(np.isnan(x))[0]
    fill = numpyro.sample("fill", dist.Normal(mu, 1).expand([len(hole)]).mask(False))
    numpyro.sample("x", dist.Normal(mu, 1), obs=jnp.asarray(x).at[hole].set(fill))


def covariate(x, y):
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(b * jnp.nan_to_num(x), 1), obs=y)


def unfilled(x, y):
    numpyro.sample("y", dist.Normal(numpyro.sample("b", dist.Normal(0, 1)) * x, 1), obs=y)


def too_late(x, y):
    m = numpyro.sample("b", dist.Normal(0, 1)) * x
    numpyro.sample("y", dist.Normal(jnp.where(jnp.isnan(x), 0.0, m), 1), obs=y)


def half_filled(x):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("x", dist.Normal(mu, 1), obs=x.at[0].set(mu))


def test_missing_values_that_the_model_fills_are_no_fault():
    known = X[~np.isnan(X)]
    mu = fitted(imputed, {"x": X}).summary().loc["mu"]
    assert mu["mean"] == pytest.approx(known.sum() / (len(known) + 1), abs=0.01)
    assert mu["sd"] == pytest.approx((len(known) + 1) ** -0.5, rel=0.03)
    x = np.nan_to_num(X)
    for method in ("cavi", "laplace"):
        fit = fitted(covariate, {"x": X, "y": Z}, method)
        assert mean(fit, "b") == pytest.approx(x @ Z / (1 + x @ x), abs=1e-3)
    assert np.isfinite(fit.predict({"x": X}, num_draws=3)["y"]).all()
    assert jn.explain(covariate, {"x": X, "y": Z}).dim == 1


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (unfilled, {"x": X, "y": Z}, "'x' holds 5 missing values.*first at row 0"),
        (covariate, {"x": X, "y": X}, "'y' holds 5 missing values"),
        (too_late, {"x": X, "y": Z}, "'x' holds 5.*its gradient is not.*jnp.where differentiates both"),
        (half_filled, {"x": X}, "'x' holds 5 missing values"),
        (lambda x, w, y: unfilled(jnp.nan_to_num(x) + w, y), {"x": X, "w": X, "y": Z}, "'w' holds 5"),
        (jn.LogDensity(lambda z, x: -jnp.sum((x - z["m"]) ** 2), {"m": ()}), {"x": X}, "'x' holds 5"),
    ],
)
def test_missing_values_that_are_left_stay_refused(model, data, message):
    for run in (lambda: fitted(model, data), lambda: jn.explain(model, data)):
        with pytest.raises(jn.DataError, match=message):
            run()
    if model is unfilled:
        for method in ("cavi", "bbvi"):
            with pytest.raises(jn.DataError, match=message):
                fitted(model, data, method)
        with pytest.raises(jn.DataError, match="'x' holds 5 missing"):
            fitted(unfilled, {"x": Z, "y": Z}).predict({"x": X})


def threshold(x, y):
    a = numpyro.sample("a", dist.Normal(0, 3).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(jnp.where(x > 0, a[0], a[1]), 1), obs=y)


def level(x, y):
    a = numpyro.sample("a", dist.Normal(0, 3).expand([9]).to_event(1))
    numpyro.sample("y", dist.Normal(a[jnp.clip(x.astype(int), 0, 8)], 1), obs=y)


def ranked(x, y):
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(b * jnp.argsort(x), 1), obs=y)


def in_a_loop(x, y):
    b = numpyro.sample("b", dist.Normal(0, 1))
    total = jax.lax.scan(lambda c, v: (c + (v > 0), c), 0, x)[1]
    numpyro.sample("y", dist.Normal(b * total, 1), obs=y)


def binned(x, y):
    a = numpyro.sample("a", dist.Normal(0, 3).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(a[jnp.digitize(x, jnp.array([0.0, 1.0]))], 1), obs=y)


def in_a_branch(x, y):
    b = numpyro.sample("b", dist.Normal(0, 1))
    sign = jax.lax.map(lambda v: jax.lax.cond(v > 0, lambda: 1.0, lambda: -1.0), x)
    numpyro.sample("y", dist.Normal(b * sign, 1), obs=y)


def in_a_loop_with_a_test(x, y):
    b = numpyro.sample("b", dist.Normal(0, 1))
    total = jax.lax.scan(lambda c, v: (c + jnp.where(jnp.isnan(v), 0, v > 0), c), 0, x)[1]
    numpyro.sample("y", dist.Normal(b * total, 1), obs=y)


@pytest.mark.parametrize("model", [threshold, level, ranked, in_a_loop, binned, in_a_branch])
def test_missing_values_are_no_numbers_to_compare(model):
    with pytest.raises(jn.DataError, match=r"'x' holds 5 missing.*compares, sorts or casts.*first at row 0"):
        fitted(model, {"x": X, "y": Z}, "laplace")
    if model is threshold:
        with pytest.raises(jn.DataError, match=r"'x' holds 5 missing.*compares"):
            fitted(model, {"x": X, "y": Z}, "cavi")
        with pytest.raises(jn.DataError, match=r"'x' holds 1 missing.*compares"):
            fitted(model, {"x": Z, "y": Z}, "cavi").predict({"x": X[:3], "y": None})


def test_a_test_for_missing_values_is_one_inside_loops_too():
    total = np.cumsum(np.r_[0, X[:-1] > 0])
    fit = fitted(in_a_loop_with_a_test, {"x": X, "y": Z})
    assert mean(fit, "b") == pytest.approx(total @ Z / (1 + total @ total), abs=1e-3)


def one_by_one(x):
    return sum(1.0 for i in range(len(x)) if x[i] > 0)


REFUSED = {
    "where": lambda x: np.where(x > 0, 1.0, 0.0),
    "a cast": lambda x: np.clip(x.astype(int), 0, 8),
    "a count": lambda x: int((x > 0).sum()),
    "a sort": lambda x: np.arange(float(len(x)))[np.argsort(x)],
    "bins": lambda x: np.digitize(x, [0.0, 1.0]),
    "Python": one_by_one,
}
FILLED = {
    "where": lambda x: np.where(np.isnan(x), 0.0, x) > 0,
    "left out": lambda x: x[~np.isnan(x)].mean(),
    "in place": lambda x: jnp.where(jnp.isnan(x), np.where(x > 0, 2.0, 1.0).size, x),
    "one by one": lambda x: np.array([0.0 if np.isnan(v) else v for v in x]),
}


def taken(change):
    def model(x, y):
        b = numpyro.sample("b", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(b * change(x), 1), obs=y)

    return model


@pytest.mark.parametrize("way", REFUSED)
def test_missing_values_are_no_numbers_to_numpy_either(way):
    with pytest.raises(jn.DataError, match=r"'x' holds 5 missing.*compares, sorts or casts.*first at row 0"):
        fitted(taken(REFUSED[way]), {"x": X, "y": Z}, "laplace")


@pytest.mark.parametrize("way", FILLED)
def test_what_numpy_fills_is_filled(way):
    x = np.asarray(X)
    fill = np.nan_to_num(x) if way == "one by one" else FILLED[way](x)
    z, y = np.broadcast_to(np.asarray(fill, float), x.shape), np.asarray(Z)
    fit = fitted(taken(FILLED[way]), {"x": X, "y": Z}, "laplace")
    assert mean(fit, "b") == pytest.approx(z @ y / (1 + z @ z), abs=1e-3)


# ---- CSV files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x,y\n10,1,2\n20,3,4\n", "row 0 has 3 fields, and the header has 2 names.*a.csv, line 2"),
        ("a.csv", "x,y\n10,1,\n20,3,\n", "row 0 has 3 fields"),
        ("a.csv", "x,y\n10,1\n20,3,4\n", "row 1 has 3 fields.*line 3"),
        ("a.csv", "x,y\n10,1\n20\n", "row 1 has 1 fields"),
        ("a.csv", 'x,y\n"1,5",2\n1,5,2\n', "row 1 has 3 fields"),
        ("a.csv", "x;y\n1;2\n", "separated by ';'"),
        ("a.tsv", "x\ty\n1\t2\t3\n", "row 0 has 3 fields"),
        ("a.csv.gz", "x,y\n1,2,3\n", "row 0 has 3 fields"),
        ("a.csv", "x,x\n1,2\n", "the name 'x' twice"),
    ],
)
def test_rows_have_as_many_fields_as_the_header(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    with pytest.raises(jn.DataError, match=message):
        read_data(tmp_path / name)


def test_rows_that_are_whole_are_read(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeffx,y,t\r\n1, 2,"a,b"\r\n\r\n3,,"c\nd"\r\n')
    arrays = read_data(tmp_path / "a.csv").arrays
    np.testing.assert_array_equal(arrays["y"], [2.0, np.nan])
    assert arrays["t"].tolist() == ["a,b", "c\nd"]
