"""Sana-Video: linear attention and feed-forward networks of convolutions (arXiv 2509.24695)."""

from quant.families.base import ATTENTION, FEED_FORWARD, Family

SANA_VIDEO = Family(
    name="sana-video",
    classes=("SanaVideoTransformer3DModel",),
    blocks=r"transformer_blocks\.(\d+)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        ("attn2.to_k", "attn2.to_v"),
    ),
    # Modulation is a table in each block, not a Linear.
    roles=((FEED_FORWARD, r"\.ff\."), (ATTENTION, r"\.attn[12]\.")),
)
