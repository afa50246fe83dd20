"""Memory: compiled programs are kept for the whole run, which hundreds of small models would turn into gigabytes."""

import os
from pathlib import Path

import jax
import pytest

from jensen.math import programs

LARGE = 2_000_000_000
"""Bytes of a worker beyond which it forgets its compiled programs between two files."""


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


@pytest.fixture(autouse=True, scope="module")
def _forget():
    yield
    if resident() > LARGE:
        programs._SHARED.clear()
        jax.clear_caches()
