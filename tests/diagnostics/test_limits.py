"""Confidence limits of a mean of weights: valid at small pools and heavy tails, and honest errors."""

import numpy as np
import pytest
from scipy import special, stats

from jensen._cli.show import evidence as evidence_table
from jensen._verdict.evidence import Evidence, evidence
from jensen._verdict.importance import weigh
from jensen._verdict.limits import lower_limit, upper_excess

LAWS = {
    "log-normal 0.5": lambda rng, n: rng.normal(-0.25, np.sqrt(0.5), n),
    "log-normal 2": lambda rng, n: rng.normal(-1.0, np.sqrt(2.0), n),
    "Pareto 0.5": lambda rng, n: np.log(0.5 * stats.genpareto.rvs(0.5, size=n, random_state=rng)),
    "zero or one": lambda rng, n: np.where(rng.uniform(size=n) < 0.9, -np.log(0.9), -np.inf),
    "bounded": lambda rng, n: np.log(2.0 * rng.uniform(size=n)),
}


def pool_of(logs):
    zero = np.zeros(len(logs))
    return weigh(np.arange(len(logs))[:, None] * 1.0, logs, zero, zero)


@pytest.mark.parametrize("draws", [128, 512])
@pytest.mark.parametrize("law", LAWS)
def test_each_end_holds(law, draws):
    """At most 12 of 200 beyond an end: for 2.5 % that has probability 2e-3."""
    rng, above, below = np.random.default_rng(3), 0, 0
    for _ in range(200):
        logs = LAWS[law](rng, draws)
        above += lower_limit([logs]) > 0
        below += (
            special.logsumexp(logs) - np.log(draws) > -np.inf and np.exp(logs).mean() + upper_excess(np.exp(logs)) < 1
        )
    assert above <= 12
    assert below <= 12


def test_the_lower_limit_is_never_far_below_that_of_markov():
    logs = np.concatenate([[50.0], np.full(99, -50.0)])
    estimate = special.logsumexp(logs) - np.log(100)
    assert estimate - np.log(40 * 18) <= lower_limit([logs, logs]) <= estimate
    assert lower_limit([np.full(5, -np.inf)]) == -np.inf


def test_a_tail_without_a_mean_has_no_upper_limit():
    logs = np.log(stats.genpareto.rvs(1.5, size=2000, random_state=np.random.default_rng(0)))
    found = evidence(pool_of(logs))
    assert found.interval[1] == np.inf
    assert "no upper limit" in str(found)
    assert " in " not in str(found)


def test_one_group_has_an_error():
    """L_100 of 128 weights: its error is that of a mean of a hundred."""
    rng = np.random.default_rng(1)
    found = [evidence(pool_of(rng.normal(-0.25, np.sqrt(0.5), 256))).importance_weighted[100] for _ in range(100)]
    spread = np.std([value for value, _ in found])
    assert 0.7 * spread < np.mean([error for _, error in found]) < 1.4 * spread
    assert min(error for _, error in found) > 0


def test_even_weights_leave_no_room():
    low, high = evidence(pool_of(np.full(128, -3.0))).interval
    assert low <= -3.0 <= high
    assert high - low < 1e-7


def test_what_there_is_no_limit_or_estimate_of_is_said():
    found = Evidence(-3.0, 0.1, {}, np.nan, np.inf, np.inf, (-2.5, np.inf))
    assert "no upper limit" in str(found)
    assert "No estimate of log p(x)" in str(found)
    known = Evidence(-3.0, 0.1, {}, -2.0, 0.1, 0.2, (-2.5, -1.5))
    assert "No estimate" not in str(known)
    cells = {str(cell) for column in evidence_table(found).columns for cell in column.cells}
    assert {"none", "no limit", "-2.500"} <= cells
