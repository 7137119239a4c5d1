"""`import quant.diffusers` teaches diffusers' `from_pretrained` to load checkpoints of this library.

A pipeline's text encoders are transformers' models, whose `from_pretrained` learns it as well.

import quant.diffusers
transformer = WanTransformer3DModel.from_pretrained("out/fp8", subfolder="transformer")
pipe = WanPipeline.from_pretrained("Wan-AI/Wan2.1-T2V-14B-Diffusers", transformer=transformer)
"""

from quant.api import transformers_quantizer
from quant.api.hf_quantizer import QuantizationConfig, Quantizer, register

register()
transformers_quantizer.register()

__all__ = ["QuantizationConfig", "Quantizer", "register"]
