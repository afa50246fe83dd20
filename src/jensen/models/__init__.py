"""Models: a NumPyro program or a plain log density, analysed once and evaluated everywhere."""

from jensen.models.build import build
from jensen.models.log_density import LogDensity
from jensen.models.structure import Plate, Site, Structure
from jensen.models.target import Target

__all__ = ["LogDensity", "Plate", "Site", "Structure", "Target", "build"]
