"""q(z, β) = q(β) Π_n q(z_n | x_n): row factors by a network, what rows share by a Gaussian of its own."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx

from jensen._amortised.family.encoder import Encoder
from jensen._amortised.family.form import AbstractForm, Direct
from jensen._amortised.family.row_factors import RowFactors, Shape
from jensen._amortised.model import RowModel
from jensen._base.typing import Array
from jensen._families.gaussian import AbstractNatural


class Amortised(eqx.Module):
    """The amortised family. Gershman and Goodman (2014); Kingma and Welling (2014), section 2.

    Attributes:
        encoder: rows' data -> the numbers that `form` makes the parameters of their factors.
        shared: q(β), over the unconstrained coordinates of the latents outside the plate (none: dimension zero).
        shape: what the factors' numbers mean. form: what the encoder's mean.
    """

    encoder: Encoder
    shared: AbstractNatural
    shape: Shape = eqx.field(static=True)
    form: AbstractForm = eqx.field(static=True, default=Direct())

    def numbers(self, model: RowModel, data: Mapping[str, Array], parameters: Mapping[str, Any]) -> Array:
        """The numbers of the factors of stacked rows, (rows, size); `model` is that of as many rows, at these data."""
        return self.form.numbers(self, model, self.encoder(data), parameters)

    def rows(self, model: RowModel, data: Mapping[str, Array], parameters: Mapping[str, Any]) -> RowFactors:
        """q(z_n | x_n) of stacked rows."""
        return RowFactors.of(model.layout, self.shape, self.numbers(model, data, parameters))
