"""Wan 2.1 and 2.2: text- and image-to-video transformers (arXiv 2503.20314)."""

from quant.families.base import ATTENTION, FEED_FORWARD, Family

WAN = Family(
    name="wan",
    classes=("WanTransformer3DModel", "WanVACETransformer3DModel"),
    blocks=r"(?:vace_)?blocks\.(\d+)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        ("attn2.to_k", "attn2.to_v"),  # the text embedding; attn2.to_q reads the video tokens
        ("attn2.add_k_proj", "attn2.add_v_proj"),  # the first frame's image embedding
    ),
    # VACE's blocks carry projections in and out of the residual stream, one each side of the block.
    keep=((r"\.proj_(in|out)$", "projects the control signal into the residual stream"),),
    roles=((FEED_FORWARD, r"\.ffn\."), (ATTENTION, r"\.attn[12]\.")),  # modulation: a table for each block, no Linear
    fused_block="wan",
)
