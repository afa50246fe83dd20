"""Compiled programs on disk: where they are kept, when, and how many."""

import os
import subprocess
import sys

import pytest

import jensen as jn
from jensen import cache


@pytest.fixture
def off():
    """Leaves the cache as the suite has it."""
    yield
    cache.disable()


def test_a_folder_is_made_and_left_again(tmp_path, off):
    cache.enable(tmp_path / "programs")
    assert jn.cache.folder() == str(tmp_path / "programs")
    assert (tmp_path / "programs").is_dir()
    cache.disable()
    assert jn.cache.folder() is None


def test_a_place_that_is_no_folder_leaves_it_off(tmp_path, off):
    (tmp_path / "file").write_text("")
    cache.enable(tmp_path / "file")
    assert jn.cache.folder() is None


def test_the_programs_read_longest_ago_go_first(tmp_path, off, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 1000)
    for i in range(4):
        (tmp_path / str(i)).write_bytes(bytes(300))
        os.utime(tmp_path / str(i), (i, i))
    cache.enable(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3"]


@pytest.mark.parametrize(
    ("first", "setting", "kept"),
    [("", {}, True), ("import jax; ", {}, False), ("", {"JENSEN_CACHE": "off"}, False)],
    ids=["by default", "after jax", "off"],
)
def test_it_is_on_where_nothing_is_printed_for_it(tmp_path, first, setting, kept):
    names = ("JENSEN_CACHE", "TF_CPP_MIN_LOG_LEVEL", "JAX_COMPILATION_CACHE_DIR")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    code = f"{first}import jensen; print(jensen.cache.folder())"
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path), **setting}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("programs") == kept
    assert run.stderr == ""
