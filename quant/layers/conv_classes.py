"""Subclasses of torch's convolutions that may be quantized although they have a forward of their own.

Each pads, cuts or keeps frames around `super().forward(x)`, and reads neither weight nor bias. Its quantized layer is
of a class derived from it, in which `super()` is the quantized convolution (`quant.layers.conv`): its own forward runs,
and code that asks for its class, as Wan's autoencoder does to count its caches, still finds it. That is not done with
classes that nobody looked at. Were one of these to read its weight after all, it would find codes, and torch refuses to
convolve those with floats.
"""

from __future__ import annotations

from torch import nn

#: Of diffusers.
DOING_AROUND = (
    "CogVideoXSafeConv3d",
    "CosmosCausalConv3d",
    "EasyAnimateCausalConv3d",
    "KVAESafeConv3d",
    "Kandinsky6SRLatentUpscalerConv3d",
    "Kandinsky6SRSafeConv3d",
    "QwenImage21CausalConv3d",
    "QwenImageCausalConv3d",
    "WanCausalConv3d",
)


def does_around(kind: type[nn.Module]) -> bool:
    """Is a subclass of one of torch's convolutions one of `DOING_AROUND`, itself and no further subclass?"""
    return kind.__name__ in DOING_AROUND and kind.__module__.startswith("diffusers.")
