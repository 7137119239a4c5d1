"""`import quant.diffusers` teaches diffusers' `from_pretrained` to load checkpoints of this library.

import quant.diffusers
transformer = WanTransformer3DModel.from_pretrained("out/fp8", subfolder="transformer")
pipe = WanPipeline.from_pretrained("Wan-AI/Wan2.1-T2V-14B-Diffusers", transformer=transformer)
"""

from quant.api.hf_quantizer import QuantizationConfig, Quantizer, register

register()

__all__ = ["QuantizationConfig", "Quantizer", "register"]
