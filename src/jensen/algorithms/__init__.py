"""One method a file."""

from jensen.algorithms.advi import ADVI
from jensen.algorithms.amortised import AmortisedVI
from jensen.algorithms.auto import Auto
from jensen.algorithms.bbvi import BBVI
from jensen.algorithms.cavi import CAVI
from jensen.algorithms.hvm import HVM
from jensen.algorithms.laplace import Laplace
from jensen.algorithms.naive import Naive
from jensen.algorithms.nested import Nested
from jensen.algorithms.pathfinder import Pathfinder
from jensen.algorithms.svi import SVI

__all__ = ["ADVI", "BBVI", "CAVI", "HVM", "SVI", "AmortisedVI", "Auto", "Laplace", "Naive", "Nested", "Pathfinder"]
