"""The shortcuts in the training of examples/shapes compute what they stand for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import nn

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import trained_clips
from tests.examples.networks import Training, perturbed

# The autoencoder on a whole clip.


@pytest.mark.parametrize("frames", [5, 9, 17])
def test_encode_clip_is_encode(training: Training, frames: int) -> None:
    torch.manual_seed(0)
    vae: Any = perturbed(training("models").make_vae())
    video = draw(trained_clips()[:2], torch.Generator().manual_seed(0))[:, :, :frames]
    mean, log_variance = training("whole_clip").encode_clip(vae, video)
    expected = vae.encode(video).latent_dist
    torch.testing.assert_close(mean, expected.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(log_variance, expected.logvar, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("latent_frames", [1, 2, 5])
def test_decode_clip_is_decode(training: Training, latent_frames: int) -> None:
    torch.manual_seed(0)
    vae: Any = perturbed(training("models").make_vae())
    latents = 0.5 * torch.randn(2, 8, latent_frames, 8, 8)
    video = training("whole_clip").decode_clip(vae, latents)
    assert video.shape == (2, 3, 4 * latent_frames - 3, 32, 32)
    torch.testing.assert_close(video.clamp(-1, 1), vae.decode(latents).sample, rtol=1e-4, atol=1e-5)


# Attention.


def two_transformers(training: Training) -> tuple[Any, Any, list[Any]]:
    """The same transformer with diffusers' attention and with training attention; the latter's cross attentions."""
    torch.manual_seed(0)
    stock: Any = perturbed(training("models").make_transformer())
    assert isinstance(stock.blocks[0].attn1.processor, WanAttnProcessor)
    ours = copy.deepcopy(stock)
    return stock, ours, training("attention").prepare(ours)


def test_training_attention_is_diffusers_attention(training: Training) -> None:
    stock, ours, _ = two_transformers(training)
    call = {"hidden_states": torch.randn(2, 8, 5, 8, 8), "timestep": torch.tensor([100.0, 900.0])}
    call["encoder_hidden_states"] = torch.randn(2, 16, 64)
    torch.testing.assert_close(ours(**call).sample, stock(**call).sample, rtol=1e-4, atol=1e-5)


def test_padding_bias_makes_16_tokens_count_as_512(training: Training) -> None:
    stock, ours, cross_attentions = two_transformers(training)
    lengths = torch.tensor([1, 7, 12, 16])
    text = torch.randn(4, 16, 64) * (torch.arange(16) < lengths[:, None])[..., None]
    for attention in cross_attentions:
        attention.bias = training("attention").padding_bias(lengths, 16, 512)
    call = {"hidden_states": torch.randn(4, 8, 5, 8, 8), "timestep": torch.full((4,), 500.0)}
    short = ours(**call, encoder_hidden_states=text).sample
    # A text that fills all 16 tokens has no zero key that could stand for the others.
    padded = stock(**call, encoder_hidden_states=nn.functional.pad(text, (0, 0, 0, 496))).sample
    torch.testing.assert_close(short[:3], padded[:3], rtol=1e-4, atol=1e-5)


def test_padding_bias_of_a_text_without_padding_is_zero(training: Training) -> None:
    bias = training("attention").padding_bias(torch.tensor([16, 3]), 16, 16)
    assert torch.equal(bias, torch.zeros(2, 1, 1, 16))


# The optimizer.


@pytest.mark.parametrize(
    ("rows", "columns", "dtype"),
    [(48, 48, torch.bfloat16), (32, 128, torch.bfloat16), (128, 32, torch.bfloat16), (128, 32, torch.float32)],
)
def test_orthogonal_sets_singular_values_to_about_one(
    training: Training, rows: int, columns: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    rank = min(rows, columns)
    left = torch.linalg.qr(torch.randn(3, rows, rank, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(3, columns, rank, generator=generator)).Q
    matrices = 7.0 * (left * torch.linspace(0.05, 1, rank)) @ right.mT
    found = training("optim").orthogonal(matrices, dtype=dtype)
    values = torch.linalg.svdvals(found)
    assert found.shape == matrices.shape and found.dtype == torch.float32
    assert values.min() > 0.6 and values.max() < 1.3
    # The directions stay: what comes out is near the product of the two orthogonal factors.
    assert torch.nn.functional.cosine_similarity(found.flatten(1), (left @ right.mT).flatten(1)).min() > 0.95


def test_processes_share_the_matrices_out(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    optim = training("optim")
    matrices = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(0))
    given: dict[int, torch.Tensor] = {}
    monkeypatch.setattr(optim.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(optim.distributed, "get_world_size", lambda: 2)
    for rank in (1, 0):
        monkeypatch.setattr(optim.distributed, "get_rank", lambda rank=rank: rank)
        # As the last process sees it: everyone's share, one after the other.
        monkeypatch.setattr(
            optim.distributed,
            "all_gather",
            lambda out, part, rank=rank: (given.update({rank: part}), out[0].copy_(part), out[1].copy_(given[1])),
        )
        shared = optim.shared_out(matrices, torch.float32)
    assert shared.shape == matrices.shape
    torch.testing.assert_close(shared, optim.orthogonal(matrices, dtype=torch.float32))
