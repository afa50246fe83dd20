"""Every example, and the first Python block of the README, runs as it stands."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
CHECKED = {"mixture_em", "factor_analysis", "relevance"}
"""Examples whose results other tests look at, by `example`."""
LONG = {"deep_exponential_family", "digits_vae", "linear_vae", "mixture_vae"}
SAYS = {"mixture": "bound -18.91182754 nats"}  # the others print a verdict
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(path, folder):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(name):
    """What an example has defined when it has run, in this process."""
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


def test_other_tests_look_at_the_rest():
    assert {path.stem for path in EXAMPLES} > CHECKED
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "learning").glob("test_*.py"))
    for name in CHECKED:
        assert f'example("{name}")' in tests


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] * (path.stem in LONG), id=path.stem)
        for path in EXAMPLES
        if path.stem not in CHECKED
    ],
)
def test_example(path, tmp_path):
    assert SAYS.get(path.stem, "Verdict: ") in run(path, tmp_path)


def test_the_first_block_of_the_readme(tmp_path):
    source = blocks(README, "python")[0]
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    (tmp_path / "readme.py").write_text(source)
    out = run(tmp_path / "readme.py", tmp_path)
    for text in ("theta[7]", "Verdict: ", "log p(x)"):
        assert text in out
    assert (tmp_path / "schools.html").exists()


def test_the_first_screen_shows_both_commands():
    first = "\n".join(README.splitlines()[:40])
    assert "make demo" in first
    assert "make test" in first


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_python_in_the_pages_compiles(path):
    for source in blocks(path.read_text(encoding="utf-8"), "python"):
        compile(source, path.name, "exec")
