"""One method a file."""

from jensen._amortised.amortised import AmortisedVI
from jensen._auto.auto import Auto
from jensen._auto.nested import Nested
from jensen._blackbox.bbvi import BBVI
from jensen._conjugate.cavi import CAVI
from jensen._conjugate.naive import Naive
from jensen._conjugate.svi import SVI
from jensen._gaussian.advi import ADVI
from jensen._gaussian.laplace import Laplace
from jensen._gaussian.pathfinder import Pathfinder
from jensen._hierarchical.hvm import HVM

__all__ = ["ADVI", "BBVI", "CAVI", "HVM", "SVI", "AmortisedVI", "Auto", "Laplace", "Naive", "Nested", "Pathfinder"]
