"""Windows against torch's own unfolding, and pieces of work against the whole."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from quant.kernels.windows import Window, stretches


def test_windows_are_those_of_unfold() -> None:
    window = Window((3, 2), (2, 1), (1, 2), (1, 3))
    a = torch.randn(2, 6, 5, 4)
    theirs = F.unfold(a.movedim(-1, 1), window.kernel_size, window.dilation, window.padding, window.stride)
    out = window.sizes(a.shape[1:-1])
    ours = window.views(window.padded(a))
    assert ours.shape == (2, *out, 3, 2, 4)
    # unfold has [B, C x taps, positions].
    assert torch.equal(ours.movedim(-1, -3).reshape(2, math.prod(out), -1).mT, theirs)


def test_codes_are_padded_with_code_0_and_nothing_is_copied_without_padding() -> None:
    a = torch.full((1, 3, 2), 0.5).to(torch.float8_e4m3fn)
    padded = Window((1,), (1,), (2,), (1,)).padded(a)
    assert padded.float().tolist() == [[[0, 0]] * 2 + [[0.5, 0.5]] * 3 + [[0, 0]] * 2]
    assert Window((3,), (1,), (0,), (1,)).padded(a) is a


def test_a_window_is_pointwise_only_where_the_rows_are_the_inputs_own() -> None:
    assert Window((1, 1), (1, 1), (0, 0), (2, 2)).is_pointwise
    for other in (Window((1, 3), (1, 1), (0, 0), (1, 1)), Window((1, 1), (1, 2), (0, 0), (1, 1))):
        assert not other.is_pointwise
    assert not Window((1, 1), (1, 1), (0, 1), (1, 1)).is_pointwise


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 40))
def test_stretches_make_up_the_whole_in_its_order(sizes: list[int], most: int) -> None:
    whole = torch.arange(math.prod(sizes)).view(sizes)
    pieces = [whole[piece].flatten() for piece in stretches(sizes, most)]
    assert torch.equal(torch.cat([whole[:0].flatten(), *pieces]), whole.flatten())
    assert all(len(piece) <= max(1, most) for piece in pieces)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(1, 20))
def test_a_piece_sees_its_windows_and_no_more(kernel: int, stride: int, padding: int, dilation: int, most: int) -> None:
    window = Window((kernel, 2), (stride, 1), (padding, 0), (dilation, 1))
    padded = window.padded(torch.arange(2 * 6 * 3.0).view(2, 6, 3, 1))
    views = window.views(padded)
    for piece in stretches([2, *window.sizes((6, 3))], most):
        seen = padded[window.seen(piece)]
        assert torch.equal(window.views(seen), views[piece])
        assert seen.shape[1] == (piece[1].stop - piece[1].start - 1) * stride + dilation * (kernel - 1) + 1
