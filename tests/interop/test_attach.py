"""A saved fit is attached to its own model and data only: to the same values in any type, and to nothing else."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import jensen as jn

X = np.linspace(-1, 1, 20)
Y = 2 * X + 0.1 * np.sin(9 * X)
SD = 0.1


def model(x, y, group, scale=1.0, sd=SD):
    b = numpyro.sample("b", dist.Normal(0, 10))
    with numpyro.plate("kind", 2):
        a = numpyro.sample("a", dist.Normal(0, scale))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(a[group] + b * x, sd), obs=y)


DATA = {"x": X, "y": Y, "group": np.arange(20) % 2}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("attach") / "fit.jn"
    jn.fit(model, DATA, "laplace", progress=False).save(path)
    return jn.load(path)


SAME = {
    "the same": DATA,
    "lists": {**DATA, "x": X.tolist(), "group": DATA["group"].tolist()},
    "another width": {**DATA, "group": DATA["group"].astype(np.int8)},
    "in another order of keys": dict(reversed(DATA.items())),
    "Fortran order and strides": {**DATA, "x": np.stack([X, X], 1)[:, 0], "y": Y[::-1][::-1]},
    "rounded to single precision": {**DATA, "y": Y.astype(np.float32)},
}


@pytest.mark.parametrize("what", SAME)
def test_the_same_values_are_attached(loaded, what):
    again = loaded.attach(model, SAME[what])
    assert again.check() is loaded.check()
    assert again.elbo == loaded.elbo


def changed(name, **changes):
    values = DATA[name].copy()
    for key, value in changes.items():
        values[int(key[3:])] = value
    return {**DATA, name: values}


order = np.r_[1, 0, 2:20]
OTHER = {
    "values": ({**DATA, "y": 100 * Y}, r"'y' has other values.*first seen at row 0"),
    "one value": (changed("y", row7=0.0), r"'y' has other values.*first seen at row 7"),
    "a last digit": (changed("y", row7=Y[7] * (1 + 1e-12)), "'y' has other values"),
    "a group": (changed("group", row3=0), r"'group' has other values.*row 3"),
    "fewer rows": ({name: value[:-1] for name, value in DATA.items()}, r"had the shape \(20,\) and has \(19,\)"),
    "reordered rows": ({name: value[order] for name, value in DATA.items()}, r"another order.*row 0"),
}


@pytest.mark.parametrize("what", OTHER)
def test_other_data_are_refused_by_key_and_row(loaded, what):
    data, said = OTHER[what]
    with pytest.raises(jn.DataError, match=f"not the data of the saved fit.*{said}"):
        loaded.attach(model, data)


def wider_prior(x, y, group):
    model(x, y, group, scale=2.0)


def squared(x, y, group):
    model(x * (1 + 1e-5), y, group)


def three_kinds(x, y, group):
    b = numpyro.sample("b", dist.Normal(0, 10))
    with numpyro.plate("kind", 3):
        a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(a[group] + b * x, SD), obs=y)


def renamed_plate(x, y, group):
    b = numpyro.sample("b", dist.Normal(0, 10))
    with numpyro.plate("sort", 2):
        a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(a[group] + b * x, SD), obs=y)


@pytest.mark.parametrize(
    ("other", "site"), [(wider_prior, "a"), (squared, "y"), (three_kinds, "a"), (renamed_plate, "a")]
)
def test_other_models_are_refused_by_site(loaded, other, site):
    with pytest.raises(jn.OptionError, match=f"does not match the saved fit at site '{site}'"):
        loaded.attach(other, DATA)


def test_a_fresh_fit_is_bound_to_its_data_too():
    fit = jn.fit(model, DATA, "laplace", progress=False)
    with pytest.raises(jn.DataError, match="'y'"):
        fit.attach(model, {**DATA, "y": Y + 1})
    assert fit.attach(model, DATA).summary().equals(fit.summary())


def test_a_log_density_is_bound_to_its_data(tmp_path):
    def density(z, y):
        return -0.5 * z["m"] ** 2 - 0.5 * ((y - z["m"]) ** 2).sum()

    fit = jn.fit(jn.LogDensity(density, {"m": ()}), {"y": Y}, "laplace", progress=False)
    fit.save(tmp_path / "f.jn")
    loaded = jn.load(tmp_path / "f.jn")
    assert loaded.attach(jn.LogDensity(density, {"m": ()}), {"y": Y}).check().verdict == fit.check().verdict
    with pytest.raises(jn.DataError, match="'y'"):
        loaded.attach(jn.LogDensity(density, {"m": ()}), {"y": Y + 1})
    with pytest.raises(jn.OptionError, match="does not match"):
        loaded.attach(jn.LogDensity(lambda z, y: 2 * density(z, y), {"m": ()}), {"y": Y})


def test_what_cannot_be_compared_is_measured_again(loaded, tmp_path):
    """As of a file of an older version, which has no fingerprint: the numbers are those of the data attached."""
    from dataclasses import replace

    unknown = replace(loaded, stored={k: v for k, v in loaded.stored.items() if k != "fingerprint"})
    same, other = unknown.attach(model, DATA), unknown.attach(model, {**DATA, "y": 2 * Y})
    assert same.elbo.value == pytest.approx(loaded.elbo.value, abs=1e-6)
    assert same.check().verdict == loaded.check().verdict
    assert other.elbo.value < loaded.elbo.value - 50
    assert other.check().verdict == "untrusted"


def test_a_file_holds_the_versions_and_no_data(loaded, tmp_path):
    import json

    loaded.save(tmp_path / "f.jn")
    with np.load(tmp_path / "f.jn") as file:
        header = json.loads(bytes(file["header"]))
        assert "manifest" in file.files
    assert set(header["versions"]) == {"jensen", "jax", "numpyro", "numpy", "python"}
    marks = header["fingerprint"]["data"]["y"]
    assert set(marks) == {"shape", "rows", "exact", "single", "fits_single"}
    assert max(marks["rows"]) < 1 << 16  # two bytes of a checksum for each row
