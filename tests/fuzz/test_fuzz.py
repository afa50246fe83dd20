"""Whatever is put in, a fit or a `JensenError` comes out, and no warning."""

import collections

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.examples import examples, run

QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def test_a_fit_or_an_error_of_ours():
    seen = collections.Counter()

    @settings(max_examples=120, derandomize=True, **QUIET)
    @given(examples(dear=0.0))
    def every(example):
        seen[run(example)] += 1

    every()
    assert seen["refused"] > 10
    assert seen["fit"] > 10


@pytest.mark.slow
def test_a_fit_or_an_error_of_ours_ten_thousand_times():
    seen = collections.Counter()

    @settings(max_examples=10_000, **QUIET)
    @given(examples())
    def every(example):
        seen[run(example)] += 1

    every()
    assert seen.total() >= 10_000
