"""Which function of a user's file is the model."""

import pytest

from jensen import LogDensity, ModelError
from jensen._cli.model_file import load_model

HEAD = "import numpyro\nimport numpyro.distributions as dist\n"
ONE = HEAD + "def height(y):\n    m = numpyro.sample('m', dist.Normal(0, 1))\n"
GOOD = {
    "called model": (
        ONE + "def model(y):\n    return height(y)\ndef weight(y):\n    numpyro.factor('f', 1.0)\n",
        "model",
    ),
    "the only one": (ONE + "def centre(y):\n    return y - y.mean()\n", "height"),
    "parts are not models": (
        HEAD + "def part(n):\n    return numpyro.sample(n, None)\ndef whole(y):\n    part('a')\n    part('b')\n",
        "whole",
    ),
    "imported names": (
        "from numpyro import sample as draw\ndef f(y):\n    draw('m', None)\n",
        "f",
    ),
    "renamed module": ("import numpyro as npy\ndef f(y):\n    npy.sample('m', None)\n", "f"),
    "inside an inner function": (
        HEAD + "def f(y):\n    def step(c, x):\n        numpyro.sample('m', dist.Normal(0, 1))\n    return step\n",
        "f",
    ),
    "decorated": (
        HEAD
        + "import functools\ndef twice(g):\n    @functools.wraps(g)\n    def h(y):\n        return g(y)\n    return h\n"
        "@twice\ndef f(y):\n    numpyro.sample('m', dist.Normal(0, 1))\n",
        "f",
    ),
    "private ones do not count": (ONE + "def _draft(y):\n    numpyro.factor('f', 1.0)\n", "height"),
    "a log density": (
        "import jensen as jn\ndef _f(z):\n    return -z['x']**2\nbanana = jn.LogDensity(_f, {'x': ()})\n",
        "banana",
    ),
}


def write(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", GOOD)
def test_chosen(tmp_path, case):
    text, name = GOOD[case]
    file = load_model(write(tmp_path, text))
    assert file.name == name
    assert callable(file.model) or isinstance(file.model, LogDensity)


def test_by_name_and_neighbours_can_be_imported(tmp_path):
    (tmp_path / "neighbour.py").write_text("LEVEL = 3.0\n")
    path = write(
        tmp_path, "from neighbour import LEVEL\n" + ONE + "def other(z, *, k=LEVEL):\n    numpyro.factor('f', z)\n"
    )
    assert load_model(path, "other").arguments() == {"z", "k"}
    assert load_model(path, "height").arguments() == {"y"}


BAD = {
    "no model": (
        HEAD + "def centre(y):\n    return y\n",
        None,
        ["has no model", "functions: centre", "numpyro.sample"],
    ),
    "empty": ("", None, ["has no model", "functions: none"]),
    "several": (
        ONE + "def weight(y):\n    numpyro.factor('f', 1.0)\n",
        None,
        ["several models: height, weight", "--model height"],
    ),
    "unknown name": (ONE, "heihgt", ["'heihgt' is not in the file", "Did you mean 'height'?"]),
    "not a function": (ONE + "LEVEL = 3\n", "LEVEL", ["'LEVEL' is not a function"]),
    "syntax": ("def model(y:\n    pass\n", None, ["not valid Python", "mine.py, line 1: def model(y:"]),
    "raises": (
        HEAD + "scale = 1 / 0\n",
        None,
        ["ZeroDivisionError: division by zero", "mine.py, line 3: scale = 1 / 0"],
    ),
    "leaves": ("import sys\nsys.exit('bye')\n", None, ["SystemExit: bye", "mine.py, line 2"]),
    "missing import": ("import numpyrro\n", None, ["ModuleNotFoundError", "numpyrro", "mine.py, line 1"]),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    text, name, wanted = BAD[case]
    with pytest.raises(ModelError) as error:
        load_model(write(tmp_path, text), name)
    for part in wanted:
        assert part in str(error.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_model(tmp_path / "none.py")
    (tmp_path / "model.txt").write_text(ONE)
    with pytest.raises(ModelError, match=r"not a Python file.*\.py"):
        load_model(tmp_path / "model.txt")


def test_prepare_is_used_and_its_errors_show_the_line(tmp_path):
    path = write(tmp_path, ONE + "def prepare(data):\n    return {'y': [v - data['shift'] for v in data['y']]}\n")
    assert load_model(path).prepared({"y": [3.0], "shift": 1.0}) == {"y": [2.0]}
    with pytest.raises(ModelError, match=r"`prepare` raised KeyError.*mine.py, line 6: return"):
        load_model(path).prepared({"y": [3.0]})
