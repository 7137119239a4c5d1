"""Mochi 1."""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

MOCHI = Family(
    name="mochi",
    classes=("MochiTransformer3DModel",),
    blocks=r"transformer_blocks\.(\d+)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        ("attn1.add_q_proj", "attn1.add_k_proj", "attn1.add_v_proj"),
    ),
    roles=(
        (MODULATION, r"\.norm1(_context)?\.linear(_1)?$"),  # the last block's has another name
        (FEED_FORWARD, r"\.ff(_context)?\."),
        (ATTENTION, r"\.attn1\."),
    ),
)
