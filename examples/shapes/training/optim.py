"""Muon: momentum whose update for each weight matrix is made orthogonal.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). The momentum of a weight
matrix is usually dominated by a few directions; setting all its singular values to about one makes every
direction learn at the same rate. A Newton-Schulz iteration finds that matrix with nothing but matmuls. A
convolution's filters count as a matrix with one row per output channel.

Here it reached in 220 steps of the autoencoder what AdamW reached in 1000. Vectors, embeddings, and the first and
last layers stay with AdamW.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, distributed


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions; the first is the output."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float = 0.01,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        """`dtype` is that of the matmuls which make updates orthogonal: float32 is faster where a CPU has no bf16."""
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update from the gradients."""
        for group in self.param_groups:
            # Matrices of one shape are stacked: a few big matmuls instead of many small ones.
            alike: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.flatten(1).shape].append(parameter)
            for (rows, columns), parameters in alike.items():
                gradients = torch.stack([self._nesterov(p, group["momentum"]) for p in parameters])
                update = shared_out(gradients, self.dtype)
                # A tall matrix's orthogonal update is smaller per entry.
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for parameter, direction in zip(parameters, update, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(direction.view(parameter.shape), alpha=-scale)

    def _nesterov(self, parameter: torch.nn.Parameter, momentum: float) -> Tensor:
        """The momentum after one more step of the same gradient, as a matrix."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum).flatten(1)


def shared_out(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """`orthogonal(matrices)`, of which every process of a group finds its share."""
    if not distributed.is_initialized():
        return orthogonal(matrices, dtype=dtype)
    processes = distributed.get_world_size()
    share = -(-len(matrices) // processes)
    # Processes exchange as much each: the last share is filled up with matrices that nobody reads.
    filled = torch.cat([matrices, matrices.new_zeros(share * processes - len(matrices), *matrices.shape[1:])])
    mine = orthogonal(filled.chunk(processes)[distributed.get_rank()], dtype=dtype).contiguous()
    found = [torch.empty_like(mine) for _ in range(processes)]
    distributed.all_gather(found, mine)
    return torch.cat(found)[: len(matrices)]


def orthogonal(matrices: Tensor, iterations: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """About the nearest (semi-)orthogonal matrix of each of `matrices` [N, rows, columns], float32.

    A quintic Newton-Schulz iteration: the coefficients push every singular value in (0, 1] towards one as fast as
    possible and stop somewhere within 0.7..1.2, which is near enough.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * (gram @ gram)) @ x
    return (x.mT if tall else x).float()
