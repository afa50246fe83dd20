"""Damaged files: every one is refused with a `SavedFitError`, or read to the same bits."""

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

import jensen as jn
from jensen._fit import archive
from tests.posteriors import fitted


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "good.jn"
    fitted("conjugate", "laplace").save(path)
    return path


def content(fit):
    draws = fit.sample(40)
    return (
        fit.summary().to_json(double_precision=15),
        fit.summary(raw=True).to_json(double_precision=15),
        str(fit.check()),
        str(fit.evidence()),
        {name: value.tobytes() for name, value in draws.items()},
        {name: value.tobytes() for name, value in fit.stored["answer"]["parameters"].items()},
        (fit.method, fit.seed, fit.status, fit.elbo, fit.timings, fit.history, fit.options),
    )


def outcome(path, before):
    try:
        fit = jn.load(path)
    except jn.SavedFitError:
        return "refused"
    return "same" if content(fit) == before else "other"


def members(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def written(path, entries, compress=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compress) as file:
        for name, value in entries:
            file.writestr(zipfile.ZipInfo(name), value, compress)


def flips(raw, rng):
    at = rng.integers(len(raw), size=rng.integers(1, 4))
    for i in at:
        raw[i] ^= 1 << int(rng.integers(8))


def directory_flips(raw, rng):
    start = bytes(raw).index(b"PK\x01\x02")
    raw[int(rng.integers(start, len(raw)))] ^= 1 << int(rng.integers(8))


def sectors(raw, rng):
    start = int(rng.integers(len(raw) // 512 + 1)) * 512
    raw[start : start + 512] = bytes(len(raw[start : start + 512]))


@pytest.mark.parametrize("how", [flips, directory_flips, sectors])
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_bytes_that_changed(good, tmp_path, how, count):
    before, rng = content(jn.load(good)), np.random.default_rng(count)
    seen = {"refused": 0, "same": 0, "other": 0}
    original = good.read_bytes()
    for _ in range(count):
        raw = bytearray(original)
        how(raw, rng)
        (tmp_path / "bad.jn").write_bytes(raw)
        seen[outcome(tmp_path / "bad.jn", before)] += 1
    assert seen["other"] == 0
    assert seen["refused"] > (0.5 if how is not directory_flips else 0.3) * count


def test_members_missing_doubled_foreign_or_exchanged(good, tmp_path):
    before, entries = content(jn.load(good)), list(members(good).items())
    changed = {}
    for i, (name, value) in enumerate(entries):
        changed[f"{name} missing"] = entries[:i] + entries[i + 1 :]
        changed[f"{name} empty"] = [*entries[:i], (name, b""), *entries[i + 1 :]]
        changed[f"{name} exchanged"] = [*entries[:i], (name, entries[i - 1][1]), *entries[i + 1 :]]
        if name not in ("header.npy", "manifest.npy"):
            array = np.load(io.BytesIO(value))
            for kind, other in {
                "short": array[:-1],
                "float16": array.astype(np.float16),
                "long": [*array, *array],
            }.items():
                if array.size:
                    buffer = io.BytesIO()
                    np.save(buffer, np.asarray(other))
                    changed[f"{name} {kind}"] = [*entries[:i], (name, buffer.getvalue()), *entries[i + 1 :]]
    changed["foreign array"] = [*entries, ("extra.npy", entries[0][1])]
    changed["foreign text"] = [*entries, ("readme.txt", b"hello")]
    for name, entry in changed.items():
        written(tmp_path / "bad.jn", entry)
        assert outcome(tmp_path / "bad.jn", before) == "refused", name
    with pytest.warns(UserWarning, match="Duplicate"):
        written(tmp_path / "bad.jn", [*entries, entries[2]])
    assert outcome(tmp_path / "bad.jn", before) == "refused"
    written(tmp_path / "same.jn", entries[::-1])  # the order of members says nothing
    assert outcome(tmp_path / "same.jn", before) == "same"


def older(good, path, change=lambda arrays, header: None):
    """The file as version 2 wrote it: compressed, without a manifest."""
    with np.load(good) as file:
        arrays = {name: file[name] for name in file.files if name != "manifest"}
    header = json.loads(bytes(arrays["header"]))
    header["version"] = 2
    for name in ("versions", "fingerprint"):
        header.pop(name)
    change(arrays, header)
    arrays["header"] = archive.text(header)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def test_files_of_older_versions_are_read(good, tmp_path):
    def first(arrays, header):
        header["version"], header["family"] = 1, "FullRank"
        for name in [name for name in arrays if name.startswith("q/")]:
            arrays["q/" + name.rpartition("/")[2]] = arrays.pop(name)

    before = content(jn.load(good))
    assert outcome(older(good, tmp_path / "two.jn"), before) == "same"
    one, now = jn.load(older(good, tmp_path / "one.jn", first)), jn.load(good)
    assert one.summary().equals(now.summary())
    np.testing.assert_array_equal(one.q.loc, now.q.loc)


OLD = {
    "a member is missing": lambda a, h: a.pop("pool/weights"),
    "draws are missing": lambda a, h: a.pop("draws/w"),
    "a column is missing": lambda a, h: a.pop("summary/raw/sd"),
    "a foreign member": lambda a, h: a.update(extra=np.zeros(3)),
    "fewer draws": lambda a, h: a.update({"draws/w": a["draws/w"][:-1]}),
    "fewer weights": lambda a, h: a.update({"pool/weights": a["pool/weights"][:-1]}),
    "weights that are none": lambda a, h: a.update({"pool/weights": a["pool/weights"] * np.nan}),
    "parameters that are none": lambda a, h: a.update({k: v * np.nan for k, v in a.items() if k.startswith("q/")}),
    "a table of nothing": lambda a, h: a.update({"summary/best/mean": a["summary/best/mean"] * np.nan}),
    "a column too short": lambda a, h: a.update({"summary/best/mean": a["summary/best/mean"][:-1]}),
    "draws as text": lambda a, h: a.update({"draws/w": a["draws/w"].astype(str)}),
    "a header without a field": lambda a, h: h.pop("report"),
    "a field of another type": lambda a, h: h.update(status=3),
    "a deep header": lambda a, h: h.update(options=json.loads("[" * 900 + "]" * 900)),
    "a bomb": lambda a, h: a.update({"draws/w": np.zeros(300_000_000, np.int8)}),
}


@pytest.mark.parametrize("what", OLD)
def test_older_files_that_do_not_add_up(good, tmp_path, what):
    path = older(good, tmp_path / "bad.jn", OLD[what])
    assert path.stat().st_size < 3_000_000
    tracemalloc.start()
    try:
        with pytest.raises(jn.SavedFitError, match=r"bad\.jn"):
            jn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_header_as_deep_as_it_gets(good, tmp_path):
    deep = np.frombuffer(b'{"format": "jensen-fit", "version": 3, "options": ' + b"[" * 200_000, np.uint8)
    entries = members(good)
    buffer = io.BytesIO()
    np.save(buffer, deep)
    written(tmp_path / "bad.jn", {**entries, "header.npy": buffer.getvalue()}.items())
    with pytest.raises(jn.SavedFitError):
        jn.load(tmp_path / "bad.jn")


def test_a_bomb_that_lies_about_its_size(good, tmp_path):
    """A member of 100 MB in a directory that calls it small, and one whose array claims more than the member holds."""
    entries = members(good)
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    written(tmp_path / "bad.jn", {**entries, "header.npy": buffer.getvalue()}.items())
    with pytest.raises(jn.SavedFitError, match="bytes"):
        jn.load(tmp_path / "bad.jn")
    big = {**entries, "header.npy": entries["header.npy"] + bytes(100_000_000)}
    written(tmp_path / "bomb.jn", big.items(), zipfile.ZIP_DEFLATED)
    raw = bytearray((tmp_path / "bomb.jn").read_bytes())
    place = bytes(raw).rindex(b"header.npy")
    raw[place - 22 : place - 18] = len(entries["header.npy"]).to_bytes(4, "little")
    (tmp_path / "bomb.jn").write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(jn.SavedFitError):
            jn.load(tmp_path / "bomb.jn")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
