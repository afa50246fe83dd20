"""Data files by suffix, and what is said about those that cannot be read."""

import json

import numpy as np
import pandas as pd
import pytest

from jensen import DataError
from jensen._cli.data_file import read_data


@pytest.mark.parametrize("suffix", ["json", "csv", "npz", "parquet"])
def test_all_formats_hold_the_same_arrays(folder, table, suffix):
    read = read_data(folder / f"data.{suffix}")
    assert read.is_table == (suffix in ("csv", "parquet"))
    assert list(read.arrays) == ["x", "y"]
    for name, values in table.items():
        np.testing.assert_allclose(np.asarray(read.arrays[name]), values, rtol=1e-14)


def test_more_spellings(tmp_path):
    frame = pd.DataFrame({"n": [1, 2], "flag": [True, False]})
    frame.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    (tmp_path / "rows.json").write_text(json.dumps([{"n": 1, "flag": True}, {"n": 2, "flag": False}]))
    for name in ("t.tsv", "t.csv.gz", "rows.json"):
        read = read_data(tmp_path / name)
        assert read.is_table
        np.testing.assert_array_equal(read.arrays["n"], [1, 2])
        np.testing.assert_array_equal(read.arrays["flag"], [True, False])


def test_scalars_of_an_archive_are_python_numbers_and_list_columns_are_stacked(tmp_path):
    np.savez(tmp_path / "a.npz", size=np.array(3), rate=np.array(0.5), y=np.ones(3))
    arrays = read_data(tmp_path / "a.npz").arrays
    assert type(arrays["size"]) is int
    assert arrays["rate"].shape == ()
    pd.DataFrame({"v": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}).to_parquet(tmp_path / "v.parquet")
    np.testing.assert_array_equal(read_data(tmp_path / "v.parquet").arrays["v"], [[1, 2], [3, 4], [5, 6]])


BAD = {
    "missing": ("none.json", None, ["does not exist", "none.json", "--data"]),
    "unknown suffix": ("data.xlsx", b"x", ["'data.xlsx' is not a data file", ".csv", ".parquet"]),
    "broken JSON": ("a.json", b'{"x": [1,\n 2', ["not valid JSON", "line 2, column"]),
    "JSON array": ("a.json", b"[1, 2]", ["JSON array, not an object", "a.json"]),
    "JSON number": ("a.json", b"3", ["JSON number"]),
    "uneven rows": ("a.json", b'[{"x": 1}, {"y": 2}]', ["Row 1 has the keys ['y'], row 0 has ['x']"]),
    "JSON in another encoding": ("a.json", '{"é": 1}'.encode("latin-1"), ["not UTF-8"]),
    "broken archive": ("a.npz", b"PK\x03\x04 rest", ["not a readable .npz", "a.npz"]),
    "pickled archive": ("pickled.npz", None, ["The array 'x' cannot be read", "numeric arrays only"]),
    "one array": ("one.npz", None, ["one array without a name", "numpy.savez"]),
    "empty CSV": ("a.csv", b"", ["cannot be read as a table", "a.csv"]),
    "CSV without rows": ("a.csv", b"x,y\n", ["no rows", "['x', 'y']"]),
    "ragged CSV": ("a.csv", b"x,y\n1,2\n1,2,3,4\n1,2\n", ["cannot be read as a table", "line 3"]),
    "broken Parquet": ("a.parquet", b"PAR1 and no more", ["not a readable Parquet file", "a.parquet"]),
}


@pytest.mark.parametrize("case", BAD)
def test_unreadable(tmp_path, case):
    name, content, wanted = BAD[case]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "pickled.npz":
        np.savez(path, x=np.array([{"a": 1}], dtype=object))
    elif name == "one.npz":
        np.save(tmp_path / "one.npy", np.ones(2))
        (tmp_path / "one.npy").rename(path)
    with pytest.raises(DataError) as error:
        read_data(path)
    for part in wanted:
        assert part in str(error.value)
