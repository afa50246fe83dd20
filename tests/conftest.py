"""Time and memory of the suite: quick compilation, and compiled programs forgotten when they fill gigabytes.

Hundreds of small models are compiled once and run once, so that compilation is most of the time. Everything is
therefore compiled without optimisation, unless `XLA_FLAGS` is set already (`XLA_FLAGS= make test` optimises).
"""

import os
import subprocess
import sys
from pathlib import Path

QUICK = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)


def _known(flags: str) -> bool:
    """Whether this version of XLA knows the flags: it ends the process where it does not."""
    run = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(run, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True).returncode == 0


# The workers inherit the environment, and XLA reads it when JAX first runs something: before the imports below.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = QUICK if _known(QUICK) else ""

os.environ["JENSEN_CACHE"] = "off"  # every run compiles what it tests

import jax  # noqa: E402
import pytest  # noqa: E402

from tests import shapes  # noqa: E402

shapes.install()

from jensen._math import programs  # noqa: E402

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
