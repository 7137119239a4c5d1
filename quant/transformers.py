"""`import quant.transformers` teaches transformers' `from_pretrained` to load checkpoints of this library.

import quant.transformers
text_encoder = UMT5EncoderModel.from_pretrained("out/w4a8", subfolder="text_encoder")
pipe = WanPipeline.from_pretrained("Wan-AI/Wan2.1-T2V-14B-Diffusers", text_encoder=text_encoder)

`import quant.diffusers` does this, too. Checkpoints named `compressed-tensors` are read by transformers' own quantizer,
with the library of that name; `quant.load` reads them packed.
"""

from quant.api.transformers_quantizer import QuantizationConfig, Quantizer, register

register()

__all__ = ["QuantizationConfig", "Quantizer", "register"]
