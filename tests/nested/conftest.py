"""What is known exactly of the models here."""

import numpy as np
import pytest
from scipy.special import logsumexp

from tests.nested import models


@pytest.fixture(scope="package")
def exact():
    """Means and sds of b, s and of the first effects, from a grid over θ, and log p(y)."""
    b, v = np.linspace(-1.5, 2.0, 41), np.linspace(-5.0, 1.0, 61)
    logs = np.array([[models.counts_log_joint(one, np.exp(two), nodes=401) + two for two in v] for one in b])
    shares = np.exp(logs - logsumexp(logs))
    values = {"b": b[:, None] + 0 * v, "s": 0 * b[:, None] + np.exp(v)}
    moments = {}
    for name, at in values.items():
        mean = (shares * at).sum()
        moments[name] = mean, np.sqrt((shares * (at - mean) ** 2).sum())
    t = np.linspace(-8.0, 8.0, 401)
    for row in (0, 5):
        first, second = np.zeros_like(shares), np.zeros_like(shares)
        for i, one in enumerate(b):
            u = np.exp(v)[:, None] * t
            w = models.COUNTS[row] * (one + u) - np.exp(one + u) - 0.5 * t**2
            w = np.exp(w - logsumexp(w, axis=1, keepdims=True))
            first[i], second[i] = (w * u).sum(axis=1), (w * u**2).sum(axis=1)
        mean = (shares * first).sum()
        moments[f"u[{row}]"] = mean, np.sqrt((shares * second).sum() - mean**2)
    return moments, logsumexp(logs) + np.log((b[1] - b[0]) * (v[1] - v[0]))
