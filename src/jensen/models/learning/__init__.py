"""Parameters that are learned: what they are, and the programs with them open (to be maximised) or closed (known)."""

from jensen.models.learning.charts import Charts
from jensen.models.learning.find import check_starts, find_parameters
from jensen.models.learning.parameter import LEARNED, Flat, Parameter, Part, coordinates, param_sites, value_at
from jensen.models.learning.programs import Closed, Opened, closed_at

__all__ = [
    "LEARNED",
    "Charts",
    "Closed",
    "Flat",
    "Opened",
    "Parameter",
    "Part",
    "check_starts",
    "closed_at",
    "coordinates",
    "find_parameters",
    "param_sites",
    "value_at",
]
