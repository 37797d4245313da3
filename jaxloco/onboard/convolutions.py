"""Convolutions over time: how layers with strides and dilations become taps on the past of each step.

A layer of kernel size K reads K signals of the layer below: the newest, and others that lie `spacing` steps apart. With
j the product of the strides below it, a layer of dilation d has the spacing j d. So computed, step by step, a network
gives what the strided one gives for the window that ends at this step, as long as nothing is padded; each step
computes each layer once.
"""

from collections.abc import Sequence
from typing import NamedTuple

TCN = "tcn"
"""The kind of a policy that convolves over time."""


class Convolution(NamedTuple):
    """One layer.

    Attributes:
        taps: Number of signals that it reads, K.
        spacing: Steps between them.
        channels: Number of outputs.
    """

    taps: int
    spacing: int
    channels: int

    @property
    def back(self) -> tuple[int, ...]:
        """How many steps back each tap reads, oldest first.

        >>> Convolution(3, 2, 8).back
        (4, 2, 0)
        """
        return tuple(self.spacing * k for k in range(self.taps - 1, -1, -1))


def reach(layers: Sequence[Convolution]) -> int:
    """Return how many frames the last layer sees, the newest one included (the receptive field).

    >>> reach([Convolution(5, 1, 8), Convolution(3, 2, 8)])
    9
    """
    return 1 + sum(layer.back[0] for layer in layers)
