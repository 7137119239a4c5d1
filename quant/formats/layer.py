"""What one stored layer is made of."""

from __future__ import annotations

from dataclasses import dataclass

from quant.formats.scheme import GROUP_SIZES, Scheme

SPARSITY = "2:4"


@dataclass(frozen=True)
class LayerForm:
    """A layer of a checkpoint: its scheme, and what stands beside the scheme.

    Attributes:
        scheme: formats of weight and input.
        smoothed: it has a `pre_quant_scale`, by which the input is multiplied.
        sparse: two of every four neighbouring columns of each row are zero.
        rank: of its low-rank branch in high precision, which is added to the output; 0 for none.
    """

    scheme: Scheme
    smoothed: bool = False
    sparse: bool = False
    rank: int = 0

    @property
    def is_plain(self) -> bool:
        """True where any reader of compressed-tensors computes the same: nothing stands beside the scheme that it
        would not know. Zeros of a sparse weight are stored as zeros."""
        return not self.smoothed and not self.rank

    @property
    def label(self) -> str:
        """In words for tables, such as "2:4 FP8_DYNAMIC + rank 16"."""
        if not self.sparse:
            name = self.scheme.name
        else:
            name = SPARSITY if self.scheme.weights is None else f"{SPARSITY} {self.scheme.name}"
        return f"{name} + rank {self.rank}" if self.rank else name


def runs_sparse(form: LayerForm) -> bool:
    """Is the form dense, or one whose 2:4 weight an op multiplies: of a scale a row or one in all, or of none?"""
    weights = form.scheme.weights
    return not form.sparse or not (form.scheme.is_packed or (weights is not None and weights.strategy == "block"))


def misfit(form: LayerForm, n: int, k: int) -> str | None:
    """Why a weight [n, k] cannot be stored in this form, with what would fit; None where it can."""
    weights = form.scheme.weights
    if n == 0 or k == 0:
        return f"a weight of {n} x {k} holds nothing to quantize"
    if weights is None and not form.sparse:
        return f"{form.scheme.name} leaves a weight that is not sparse as it is"
    if not runs_sparse(form):
        return f"no op runs {SPARSITY} with {form.scheme.name}"
    if form.sparse and k % 4:
        return f"2:4 needs in_features a multiple of 4, got {k}"
    if weights is not None and weights.group_size is not None and k % weights.group_size:
        fitting = [str(size) for size in GROUP_SIZES if k % size == 0]
        instead = f"group_size {' or '.join(fitting)}" if fitting else "strategy 'channel'"
        return f"groups of {weights.group_size} do not fit in_features {k}; {instead} would"
    if form.rank and form.rank >= min(n, k):
        return f"a branch of rank {form.rank} is no smaller than the weight [{n}, {k}]"
    return None
