"""One method a file."""

from jensen.algorithms.advi import ADVI
from jensen.algorithms.auto import Auto
from jensen.algorithms.laplace import Laplace
from jensen.algorithms.pathfinder import Pathfinder

__all__ = ["ADVI", "Auto", "Laplace", "Pathfinder"]
