"""Video U-Nets: Stable Video Diffusion (arXiv 2311.15127), ModelScope (arXiv 2308.06571), I2VGen-XL (arXiv 2311.04145)
and AnimateDiff (arXiv 2307.04725).
"""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

UNET = Family(
    name="unet",
    classes=("UNetSpatioTemporalConditionModel", "UNet3DConditionModel", "I2VGenXLUNet", "UNetMotionModel"),
    blocks=r"(?:(?:down|up)_blocks\.(\d+)|mid_block)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        # Between frames the second attention also looks at the frames themselves, save in Stable Video Diffusion.
        *(
            tuple(f"{frames}.*.transformer_blocks.*.attn2.to_{each}" for each in "qkv")
            for frames in ("motion_modules", "temp_attentions")
        ),
        ("attn2.to_k", "attn2.to_v"),  # the text or image embedding
    ),
    roles=(
        (MODULATION, r"\.time_emb_proj$"),
        (FEED_FORWARD, r"\.ff(_in)?\."),
        (ATTENTION, r"\.attn[12]\."),
    ),
)
