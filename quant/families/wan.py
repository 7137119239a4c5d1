"""Wan 2.1 and 2.2 (arXiv 2503.20314); VACE, Animate, SkyReels V2, ChronoEdit, AnyFlow and Helios have its block."""

from quant.families.base import ATTENTION, FEED_FORWARD, Family

WAN = Family(
    name="wan",
    classes=(
        "WanTransformer3DModel",
        "WanVACETransformer3DModel",
        "WanAnimateTransformer3DModel",
        "WanAnimate2Transformer3DModel",
        "SkyReelsV2Transformer3DModel",
        "ChronoEditTransformer3DModel",
        "AnyFlowTransformer3DModel",
        "AnyFlowFARTransformer3DModel",
        "HeliosTransformer3DModel",
    ),
    # Animate's face adapter is an attention to the face's motion after every fifth block.
    blocks=r"(?:(?:vace_)?blocks|face_adapter)\.(\d+)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        ("attn2.to_k", "attn2.to_v"),  # the text embedding; attn2.to_q reads the video tokens
        ("attn2.add_k_proj", "attn2.add_v_proj"),  # the first frame's image embedding
        ("self_attn.to_q", "self_attn.to_k", "self_attn.to_v"),  # Animate 2 has other names
        ("cross_attn.to_k", "cross_attn.to_v"),
        ("cross_attn.add_k_proj", "cross_attn.add_v_proj"),
        ("to_k", "to_v"),  # of the face adapter
    ),
    # VACE's blocks carry projections in and out of the residual stream, one each side of the block.
    keep=((r"\.proj_(in|out)$", "projects the control signal into the residual stream"),),
    # Modulation is a table in each block, not a Linear.
    roles=((FEED_FORWARD, r"\.ffn\."), (ATTENTION, r"\.(attn[12]|self_attn|cross_attn)\.|^face_adapter\.")),
    fused_block="wan",
    fused_classes=("WanTransformer3DModel", "WanVACETransformer3DModel"),
)
