"""The bridge between q and the posterior, on laws whose normalisers are known."""

import numpy as np
from scipy import stats

from jensen._verdict.bridge import bridge

LOG_Z = 7.3


def ratios(q, p, draws):
    """Log p(x, z) - log q(z), with log p(x) = `LOG_Z`."""
    return LOG_Z + p.logpdf(draws) - q.logpdf(draws)


def test_the_evidence_of_a_wider_posterior():
    q, p = stats.norm(0, 1), stats.norm(0.5, 2.0)
    value, error = bridge(ratios(q, p, q.rvs(400, random_state=0)), ratios(q, p, p.rvs(300, random_state=1)))
    assert abs(value - LOG_Z) < 4.0 * error < 0.5


def test_a_mode_that_q_does_not_reach_counts():
    rng, q = np.random.default_rng(0), stats.norm(0, 1)
    other = rng.uniform(size=400) < 0.4
    there = np.where(other, 30.0, 0.0) + rng.normal(size=400)

    def log_ratio(z):
        return LOG_Z + np.logaddexp(np.log(0.6) + q.logpdf(z), np.log(0.4) + q.logpdf(z - 30)) - q.logpdf(z)

    value, error = bridge(log_ratio(rng.normal(size=400)), log_ratio(there))
    assert abs(value - LOG_Z) < 4.0 * error < 0.5


def test_no_estimate_where_the_two_hardly_overlap():
    q, p = stats.norm(0, 1), stats.norm(12.0, 1.0)
    value, error = bridge(ratios(q, p, q.rvs(400, random_state=0)), ratios(q, p, p.rvs(300, random_state=1)))
    assert np.isnan(value)
    assert error == np.inf
