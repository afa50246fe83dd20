"""q(z, β) = q(β) Π_n q(z_n | x_n): row factors by a network, what rows share by a Gaussian of its own."""

from collections.abc import Mapping

import equinox as eqx

from jensen._typing import Array
from jensen.families.amortised.encoder import Encoder
from jensen.families.amortised.row_factors import RowFactors, Shape
from jensen.families.gaussian import AbstractGaussian
from jensen.models.rows import RowLayout


class Amortised(eqx.Module):
    """The amortised family. Gershman and Goodman (2014); Kingma and Welling (2014), section 2.

    Attributes:
        encoder: rows' data -> parameters of their factors.
        shared: q(β), over the unconstrained coordinates of the latents outside the plate (none: dimension zero).
        shape: what the encoder's numbers mean.
    """

    encoder: Encoder
    shared: AbstractGaussian
    shape: Shape = eqx.field(static=True)

    def rows(self, layout: RowLayout, data: Mapping[str, Array]) -> RowFactors:
        """q(z_n | x_n) of stacked rows; `layout` is that of a model with as many rows."""
        return RowFactors.of(layout, self.shape, self.encoder(data))
