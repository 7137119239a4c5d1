"""`import quant.diffusers` teaches diffusers' `from_pretrained` to load checkpoints of this library.

A pipeline's text encoders are transformers' models, whose `from_pretrained` learns it as well.

import quant.diffusers
transformer = WanTransformer3DModel.from_pretrained("out/fp8", subfolder="transformer")
pipe = WanPipeline.from_pretrained("Wan-AI/Wan2.1-T2V-14B-Diffusers", transformer=transformer)

A recipe that needs no data is applied to an original while diffusers loads it:

transformer = WanTransformer3DModel.from_pretrained(..., quantization_config=quant.diffusers.QuantConfig("fp8-dynamic"))
"""

from quant.api import on_the_fly, transformers_quantizer
from quant.api.hf_quantizer import QuantizationConfig, Quantizer, register
from quant.api.on_the_fly import QuantConfig

register()
on_the_fly.register()
transformers_quantizer.register()

__all__ = ["QuantConfig", "QuantizationConfig", "Quantizer", "register"]
