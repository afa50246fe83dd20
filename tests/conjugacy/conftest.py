import zlib

import numpy as np
import pytest

from jensen._conjugate.algebra import conjugate_target
from jensen._conjugate.coordinate.ascent import Ascent
from jensen._conjugate.coordinate.starts import random_start
from jensen._math.precision import working

from .zoo import ZOO

BUILT = {}


@pytest.fixture(autouse=True)
def _double():
    with working("double"):
        yield


@pytest.fixture(scope="session")
def analysed():
    """name -> analysed model of the zoo with its program, built once."""

    def get(name):
        if name not in BUILT:
            BUILT[name] = conjugate_target(*ZOO[name])
        return BUILT[name]

    return get


@pytest.fixture(scope="session")
def built(analysed):
    """name -> the model of `analysed` by itself."""
    return lambda name: analysed(name).model


@pytest.fixture
def swept(built):
    """name -> (model, state after one sweep from a random start): a proper q, far from any optimum."""

    def get(name, sweeps=1):
        model = built(name)
        ascent = Ascent(model)
        state = ascent.begin(random_start(model, np.random.default_rng(zlib.crc32(name.encode())), seeds=False))
        return model, ascent.advance(state, sweeps - 1)

    return get
