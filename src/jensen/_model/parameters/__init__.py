"""Parameters that are learned: what they are, and the programs with them open (to be maximised) or closed (known)."""

from jensen._model.parameters.charts import Charts
from jensen._model.parameters.find import check_starts, find_parameters
from jensen._model.parameters.parameter import LEARNED, Flat, Parameter, Part, coordinates, param_sites, value_at
from jensen._model.parameters.programs import Closed, Opened, closed_at

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
