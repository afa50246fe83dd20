"""The Python blocks of every page of the documentation run, one after another, as they stand."""

from pathlib import Path

import pytest

from tests.test_examples import blocks

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
LONG = {"bbvi"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (page.stem in LONG), id=page.stem)
        for page in PAGES
        if blocks(page.read_text(encoding="utf-8"), "python")
    ],
)
def test_the_blocks_of_a_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "python"), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)
