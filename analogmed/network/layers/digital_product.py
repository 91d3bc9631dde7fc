"""Base of layers with weights in products that no crossbar computes."""

from typing import ClassVar

from torch import Tensor, nn


class DigitalProduct(nn.Module):
    """Layer whose own weights stay digital, with the reason and the number of its products.

    Analog coverage and hardware mapping list such a layer as digital.

    Attributes:
        reason: why its weights cannot be mapped onto tiles, for the listing.
    """

    reason: ClassVar[str]

    def count_macs(self, inputs: Tensor, output: Tensor) -> int:
        """Return the number of multiply-accumulates of one call, for the whole batch.

        Args:
            inputs: first argument of the forward pass.
            output: its result, the first one if there are several.
        """
        raise NotImplementedError
