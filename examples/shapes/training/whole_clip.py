"""The video autoencoder on a whole clip at once.

`AutoencoderKLWan.encode` and `.decode` walk through a video four frames at a time and keep the last frames of
every causal convolution for the next step: memory stays small however long the video is. A clip of 17 frames needs
no such care, and each convolution applied once to all frames computes the same numbers with a fifth of the calls.
`tests/examples/test_shapes_training.py` holds the two against each other.

Time in this autoencoder: the first frame stands alone, every later latent frame is four video frames.
"""

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, patchify, unpatchify
from torch import Tensor


def encode_clip(vae: AutoencoderKLWan, video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latents [B, Z, 1 + (F - 1) / 4, h, w] of a video [B, 3, F, H, W] in -1..1."""
    x = video if vae.config.patch_size is None else patchify(video, patch_size=vae.config.patch_size)
    encoder = vae.encoder
    x = encoder.conv_in(x)
    for block in encoder.down_blocks:
        x = _down(block, x)
    x = encoder.conv_out(encoder.nonlinearity(encoder.norm_out(encoder.mid_block(x))))
    mean, log_variance = vae.quant_conv(x).chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def decode_clip(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """The video [B, 3, F, H, W] of latents [B, Z, f, h, w]; not clamped to -1..1, so that gradients pass."""
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        x = _up(block, x)
    x = decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))
    return x if vae.config.patch_size is None else unpatchify(x, patch_size=vae.config.patch_size)


def _down(block: torch.nn.Module, x: Tensor) -> Tensor:
    if isinstance(block, WanResample):
        return _halve(block, x)
    if not hasattr(block, "avg_shortcut"):
        return block(x)
    y = x
    for layer in block.resnets:
        y = layer(y)
    if block.downsampler is not None:
        y = _halve(block.downsampler, y)
    return y + block.avg_shortcut(x)


def _up(block: torch.nn.Module, x: Tensor) -> Tensor:
    y = x
    for layer in block.resnets:
        y = layer(y)
    residual = hasattr(block, "upsampler")
    upsampler = block.upsampler if residual else (block.upsamplers[0] if block.upsamplers is not None else None)
    if upsampler is not None:
        y = _double(upsampler, y)
    if residual and block.avg_shortcut is not None:
        y = y + block.avg_shortcut(x, first_chunk=True)
    return y


def _halve(resample: WanResample, x: Tensor) -> Tensor:
    """Half the height and width and, where it has a convolution over time, half the frames after the first."""
    x = _each_frame(resample, x)
    if resample.mode == "downsample3d":
        x = torch.cat([x[:, :, :1], resample.time_conv(x)], dim=2)
    return x


def _double(resample: WanResample, x: Tensor) -> Tensor:
    """The other way round: every frame after the first becomes two, then every frame doubles in size."""
    if resample.mode == "upsample3d" and x.shape[2] > 1:
        later = resample.time_conv(x[:, :, 1:])
        b, c, f, h, w = later.shape
        later = later.view(b, 2, c // 2, f, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c // 2, 2 * f, h, w)
        x = torch.cat([x[:, :, :1], later], dim=2)
    return _each_frame(resample, x)


def _each_frame(resample: WanResample, x: Tensor) -> Tensor:
    b, _, f, _, _ = x.shape
    frames = resample.resample(x.transpose(1, 2).flatten(0, 1))
    return frames.unflatten(0, (b, f)).transpose(1, 2)
