"""A file is replaced whole or not at all, whatever happens meanwhile."""

import os
import stat
import subprocess
import sys
import threading

import pytest

import jensen as jn
from jensen._base.replacing import replacing
from tests.posteriors import fitted


def put(path, text, error=None):
    with replacing(path) as place:
        place.write_text(text)
        if error is not None:
            raise error


def test_an_error_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f"
    put(path, "old")
    for error in (OSError, KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            put(path, "ne", error)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_links_are_followed_and_modes_kept(tmp_path):
    path, link, dangling = tmp_path / "f", tmp_path / "link", tmp_path / "dangling"
    put(path, "old")
    path.chmod(0o640)
    link.symlink_to("f")
    dangling.symlink_to("later")
    put(link, "new")
    put(dangling, "made")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (tmp_path / "later").read_text() == "made"
    before = os.umask(0o027)
    try:
        put(tmp_path / "fresh", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o640


def test_errors_name_the_path(tmp_path):
    for path, error in ((tmp_path / "none" / "f", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error) as caught:
            put(path, "")
        assert caught.value.filename == str(path)


def test_pipes_and_devices_are_written_to_as_they_are():
    put(os.devnull, "nothing")
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)


def test_two_writers_and_a_reader(tmp_path):
    path, stop, seen = tmp_path / "f", threading.Event(), set()
    put(path, "a" * 5000)

    def write(letter):
        for _ in range(60):
            put(path, letter * 5000)

    def read():
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert seen <= {"a" * 5000, "b" * 5000}
    assert os.listdir(tmp_path) == ["f"]


def test_reports_and_plots_are_replaced_whole_too(tmp_path, monkeypatch):
    fit = fitted("conjugate", "laplace")
    for name in ("fit.jn", "report.html"):
        (tmp_path / name).write_text("old")
    monkeypatch.setattr("jensen._base.replacing.os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        fit.save(tmp_path / "fit.jn")
    monkeypatch.setattr("jensen._report.html.render", lambda fit: "new")
    with pytest.raises(OSError, match="full"):
        fit.report(tmp_path / "report.html")
    assert sorted(os.listdir(tmp_path)) == ["fit.jn", "report.html"]
    assert {p.read_text() for p in tmp_path.iterdir()} == {"old"}


KILLER = """
import os, signal, sys, time
import numpy as np
import jensen as jn
old, new = (open(name, "rb").read() for name in ("a.jn", "b.jn"))
rng, found = np.random.default_rng(0), dict.fromkeys(("old", "new", "neither", "cut"), 0)


def killed(real, after):
    def replace(*names):
        real(*names) if after else None
        os.kill(os.getpid(), signal.SIGKILL)

    return replace


for index in range(int(sys.argv[1])):
    with open("f.jn", "wb") as file:
        file.write(old)
    read, write = os.pipe()
    child = os.fork()  # JAX is not running yet
    if not child:
        b = jn.load("b.jn")
        if index % 3:  # the last moment before the new file is there, and the first after
            os.replace = killed(os.replace, index % 3 == 2)
        os.write(write, b"!")
        while True:
            b.save("f.jn")
    os.read(read, 1)
    if index % 3 == 0:
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    content = open("f.jn", "rb").read()
    found["old" if content == old else "new" if content == new else "neither"] += 1
    for name in [name for name in os.listdir() if name.endswith(".tmp")]:
        found["cut"] += 1
        os.remove(name)
print(*found.values())
"""


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_kill_during_a_save_leaves_the_old_file_or_the_new_one(tmp_path, kills):
    for name, seed in (("a.jn", 0), ("b.jn", 1)):
        fitted("conjugate", "laplace", seed).save(tmp_path / name)
    run = [sys.executable, "-c", KILLER, str(kills)]
    told = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    old, new, neither, cut = map(int, told)
    assert neither == 0
    assert old + new == kills
    assert old >= kills // 3  # those killed before the rename
    assert new >= kills // 3  # and after it
    assert cut >= kills // 3  # what was written until then stayed beside the old file
    assert jn.load(tmp_path / "f.jn").method == "laplace"
