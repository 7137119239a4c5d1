"""Networks to compare in the tests of examples/shapes."""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import nn

#: Imports the module of that name from the example's training.
Training = Callable[[str], ModuleType]


def perturbed(network: nn.Module) -> nn.Module:
    """`network` with a little noise on every weight, so that nothing which starts at zero hides an error."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)
