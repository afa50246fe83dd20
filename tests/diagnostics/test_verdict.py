"""How findings become a verdict, and what an algorithm may certify."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

import jensen as jn
from jensen._core import AbstractCheck, Certificate, Finding, Outcome
from jensen._verdict.check import as_dict, from_dict
from jensen._verdict.importance import weigh
from jensen._verdict.verdict import Material, verdict


@dataclass(frozen=True)
class Always(AbstractCheck):
    """A check with one finding."""

    finding: Finding

    def measure(self, material):
        assert set(material.draws) == {"x"}
        assert material.outcome.converged
        yield self.finding


@pytest.fixture(scope="module")
def fit():
    return jn.fit(jn.LogDensity(lambda z: -0.5 * (z["x"] - 1.0) ** 2, {"x": ()}), method="laplace")


@pytest.mark.parametrize(
    ("blocks", "passed", "verdict"),
    [
        ("usable", False, "untrusted"),
        ("trusted", False, "usable"),
        ("", False, "trusted"),
        ("usable", True, "trusted"),
    ],
)
def test_a_check_of_ones_own_rules_a_verdict_out(fit, blocks, passed, verdict):
    finding = Finding("parity of x", 1.0, "even", passed, blocks, "x is odd.", "Make it even.")
    report = fit.with_checks(Always(finding)).check()
    assert fit.check().verdict == "trusted"
    assert report.verdict == verdict
    assert report.checks[-1].name == "parity of x"
    assert ("x is odd." in report.reasons) == (verdict != "trusted")
    assert ("Make it even." in report.remedy) == (verdict != "trusted")
    assert from_dict(json.loads(json.dumps(as_dict(report)))) == report


def test_the_draws_follow_the_verdict(fit):
    """At *usable*, `sample` resamples by weight: the pool holds a heavier-tailed half that q's own draws do not."""
    finding = Finding("parity of x", 1.0, "even", False, "trusted", "x is odd.")
    judged = fit.with_checks(Always(finding))
    assert {"q_mean", "q_sd"} <= set(judged.summary().columns)
    assert "q_mean" not in fit.summary()


def test_notes_are_said_under_any_verdict(fit):
    note = Finding("moon", 0.5, "reported", True, "", remedy="Wait.", note="The moon is half full.")
    report = fit.with_checks(Always(note)).check()
    assert report.verdict == "trusted"
    assert "The moon is half full." in report.reasons
    assert report.remedy == "Wait."


def test_a_failure_without_words_is_named(fit):
    report = fit.with_checks(Always(Finding("moon", 0.5, "full", False, "usable"))).check()
    assert report.verdict == "untrusted"
    assert any("moon" in reason for reason in report.reasons)


def test_a_report_of_an_older_file_has_no_word_on_what_a_line_blocks(fit):
    data = as_dict(fit.check())
    data["checks"] = [{k: v for k, v in line.items() if k != "blocks"} for line in data["checks"]]
    assert replace(from_dict(data), checks=()) == replace(fit.check(), checks=())


# ---- the certificate ------------------------------------


def test_a_name_that_no_certificate_has_is_refused():
    with pytest.raises(TypeError, match="share_elsewere"):
        Certificate.of({"share_elsewere": 0.3})
    with pytest.raises(KeyError):
        Certificate(elbo=1.0)["elbo_se"]


def test_an_algorithm_may_certify_by_a_mapping():
    outcome = Outcome(None, True, "", {"elbo": -1.0, "saddle": True})  # type: ignore[arg-type]
    assert outcome.certificate == Certificate(elbo=-1.0, saddle=True)


def test_what_was_measured_later_counts():
    first = Certificate(share_elsewhere=0.4, sweeps=2.0, interrupted=True)
    both = first | Certificate(share_elsewhere=0.0)
    assert (both.share_elsewhere, both.sweeps, both.interrupted) == (0.0, 2.0, True)


def test_certificates_of_other_versions_are_read():
    kept = Certificate(elbo=np.nextafter(1.0, 2.0), interrupted=True, sweeps=3.0)
    assert Certificate.from_dict(json.loads(json.dumps(kept.as_dict()))) == kept
    old = {"elbo": 2.0, "saddle": 0.0, "interrupted": 1.0, "fossil": 7.0}
    assert Certificate.from_dict(old) == Certificate(elbo=2.0, interrupted=True)


class _Counting(AbstractCheck):
    def __init__(self, passed, dear):
        self.passed, self.dear, self.asked = passed, dear, 0

    def measure(self, material):
        self.asked += 1
        yield Finding(f"dear: {self.dear}", 0.0, "", self.passed, reason="It failed.")


@pytest.mark.parametrize(("costly", "fails", "asked"), [(True, True, 0), (True, False, 1), (False, True, 1)])
def test_a_dear_check_is_left_out_only_where_it_is_costly_and_the_answer_clear(costly, fails, asked):
    dear, cheap = _Counting(True, True), _Counting(not fails, False)
    pool = weigh(np.zeros((128, 1)), np.zeros(128), np.zeros(128), np.zeros(128))
    said = {"advice": {"untrusted": "", "usable": ""}, "khat": lambda pool: pool.khat_q, "onward": lambda pool: ""}
    answer = SimpleNamespace(costly=costly, **said)
    report = verdict(Material(answer, pool, {}, 0), [dear, cheap])
    assert dear.asked == asked
    assert report.verdict == ("untrusted" if fails else "trusted")
    assert [check.name for check in report.checks] == ["dear: True"] * asked + ["dear: False"]
