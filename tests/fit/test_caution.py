"""A warning travels with the numbers of a fit that is untrusted or was interrupted."""

import warnings
from dataclasses import replace

import pytest

import jensen as jn
from jensen._core import AbstractCheck, Certificate, Finding
from tests.posteriors import conjugate, conjugate_data


class Never(AbstractCheck):
    def measure(self, material):
        yield Finding("moon", 0.0, "full", False, "usable", "The moon is not full.", "Wait.")


@pytest.fixture(scope="module")
def sound():
    return jn.fit(conjugate, conjugate_data(), method="laplace")


@pytest.fixture
def bad(sound):
    return sound.with_checks(Never())


READERS = {
    "summary": lambda fit: fit.summary(),
    "sample": lambda fit: fit.sample(10),
    "predict": lambda fit: fit.predict(num_draws=10),
    "to_arviz": lambda fit: fit.to_arviz(10),
    "evidence": lambda fit: fit.evidence(),
}


@pytest.mark.parametrize("name", READERS)
def test_whatever_is_read_first_warns_at_the_users_line_and_nothing_after_it(bad, name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        READERS[name](bad)
        for read in READERS.values():
            read(bad)
    (one,) = [w for w in caught if issubclass(w.category, jn.UntrustedWarning)]
    assert one.filename == __file__
    said = "This fit is untrusted. The moon is not full. Wait. NUTS goes on from here in about "
    assert str(one.message).startswith(said)


def test_a_sound_fit_and_raw_draws_do_not(sound, bad, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", jn.UntrustedWarning)
        for read in READERS.values():
            read(sound)
        bad.sample(10, raw=True)
        bad.save(tmp_path / "fit.jn")
        bad.report(tmp_path / "fit.html")
        jn.compare({"a": bad})
    with pytest.warns(jn.UntrustedWarning, match="moon"):
        jn.load(tmp_path / "fit.jn").summary()


def test_an_interrupted_fit_warns_whatever_its_verdict(sound):
    outcome = replace(sound.outcome, certificate=Certificate(interrupted=True))
    fit = replace(sound, outcome=outcome)
    with pytest.warns(jn.UntrustedWarning, match="was interrupted"):
        table = fit.summary()
    assert "interrupted" in table.attrs["caption"]


def test_the_representation_says_the_verdict_where_it_is_known(sound, bad, tmp_path):
    fresh = replace(bad)
    gradients = fresh.target.gradients
    assert "not checked yet" in repr(fresh)
    assert fresh.target.gradients == gradients
    fresh.check()
    assert "verdict='untrusted'" in repr(fresh)
    sound.save(tmp_path / "fit.jn")
    assert "verdict='trusted'" in repr(jn.load(tmp_path / "fit.jn"))


def test_tables_and_trees_carry_the_verdict(sound, bad):
    with pytest.warns(jn.UntrustedWarning):
        table = bad.summary()
    assert table.attrs["verdict"] == "untrusted"
    assert table.attrs["reasons"][0] == "The moon is not full."
    assert table.attrs["caption"] == "Posterior summary (draws from q), untrusted"
    assert str(table).startswith("untrusted")
    assert sound.summary().attrs["verdict"] == "trusted"
    assert "not checked yet" in replace(bad).summary(raw=True).attrs["caption"]
    attrs = bad.to_arviz(10)["posterior"].attrs
    assert attrs["verdict"] == "untrusted"
    assert "moon" in attrs["reasons"]
