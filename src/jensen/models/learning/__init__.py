"""Parameters that are learned: what they are, and the programs with them open (to be maximised) or closed (known)."""

from jensen.models.learning.find import find_parameters
from jensen.models.learning.parameter import LEARNED, Flat, Parameter
from jensen.models.learning.programs import Closed, Opened

__all__ = ["LEARNED", "Closed", "Flat", "Opened", "Parameter", "find_parameters"]
