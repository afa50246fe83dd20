"""Models: a NumPyro program or a plain log density, analysed once and evaluated everywhere."""

from jensen._model.build import build
from jensen._model.target import Target
from jensen._program.log_density import LogDensity
from jensen._program.structure import Plate, Site, Structure

__all__ = ["LogDensity", "Plate", "Site", "Structure", "Target", "build"]
