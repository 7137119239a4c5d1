"""The parts of the pipeline, untrained, each with a start that trains.

diffusers and transformers build models to be loaded, not trained: their layers start with torch's defaults. Here
every filter and matrix starts with unit gain, and what ends a residual branch starts with zero, so that each block
is the identity at first.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from quant.eval.shapes.vocabulary import ATTRIBUTES

#: Channels of the latents.
LATENT_CHANNELS = 4
#: Text tokens, always so many. The longest caption has 13, with the tokens at its ends.
TEXT_TOKENS = 16
#: Width of the text encoder.
TEXT_WIDTH = 64
#: Every word of a caption and of a sentence that asks for an edit.
WORDS = ("a", "moves", "over", "background", "make", "the", *(v for values in ATTRIBUTES.values() for v in values))


def make_vae() -> AutoencoderKL:
    """An autoencoder for single frames: 4 x 4 pixels to 4 numbers. Half a million parameters."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            _start(module)
    # Posterior standard deviations start at exp(-6 / 2) = 0.05: with 1 the decoder sees only noise.
    vae.quant_conv.weight.data[LATENT_CHANNELS:] = 0
    vae.quant_conv.bias.data[LATENT_CHANNELS:] = -6.0
    return vae


def make_unet() -> UNet3DConditionModel:
    """7.2 million parameters, half of them in convolutions: 8 x 8, 4 x 4 and 2 x 2 places in each frame."""
    unet = UNet3DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"),
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
    )
    for module in unet.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            _start(module)
    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear) and name.endswith(_LAST_OF_A_BRANCH):
            nn.init.zeros_(module.weight)
    return unet


#: How the names of layers end whose output is added to their block's input, and of the UNet's last one.
_LAST_OF_A_BRANCH = (".conv2", ".conv4.3", ".proj_out", "conv_out")


def make_text_encoder() -> CLIPTextModel:
    """Two layers of the architecture that ModelScope's model uses (CLIP), trained together with the UNet."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(make_tokenizer()),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_TOKENS,
            projection_dim=TEXT_WIDTH,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's kind of tokenizer, in which every word that the model knows is one token."""
    merges = pairs_to_join(WORDS)
    tokens = ["<|startoftext|>", "<|endoftext|>", *sorted({c for word in WORDS for c in _letters(word)})]
    tokens += [left + right for left, right in merges]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=TEXT_TOKENS
    )


def pairs_to_join(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte pair encoding (Sennrich et al. 2016) until each of `words` is one token: what is joined, in order."""
    split = [_letters(word) for word in words]
    merges = []
    while pairs := Counter(pair for parts in split for pair in pairwise(parts)):
        # The most frequent pair; among equals the first of the alphabet, for the same tokens on every machine.
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((left, right))
        split = [_joined(parts, left, right) for parts in split]
    return merges


def _letters(word: str) -> list[str]:
    """The letters of a word, the last one marked as CLIP's tokenizer marks it."""
    return [*word[:-1], word[-1] + "</w>"]


def _joined(parts: list[str], left: str, right: str) -> list[str]:
    found: list[str] = []
    for part in parts:
        if part == right and found and found[-1] == left:
            found[-1] = left + right
        else:
            found.append(part)
    return found


def make_scheduler() -> DDIMScheduler:
    """The noise of a cosine schedule (Nichol and Dhariwal 2021) that ends in nothing but noise (Lin et al. 2023)."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def _start(layer: nn.Conv2d | nn.Conv3d | nn.Linear) -> None:
    """Unit gain and no bias."""
    nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def channels_last(network: nn.Module) -> None:
    """Store the filters of frames with the channels last: on a CPU their products take half the time."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.to(memory_format=torch.channels_last)
