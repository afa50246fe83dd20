"""What an algorithm runs on: a model, analysed for one kind of method."""

import abc
from typing import Any

from jensen._math.precision import Precision


class AbstractTarget(abc.ABC):
    """A model as one kind of method sees it; `AbstractAlgorithm.prepare` makes it, `run` works on it.

    Its programs are compiled once, however often they are called, and it counts what it evaluates.

    Attributes:
        precision: of all computation with it.
        structure: sites and plates, once they are known. program: the user's program with its data, if there is one.
        gradients, values: evaluations of a log density so far, with and without gradient.
    """

    precision: Precision
    structure: Any
    program: Any
    gradients: int = 0
    values: int = 0
