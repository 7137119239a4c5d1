"""Latte (arXiv 2401.03048)."""

from quant.families.base import ATTENTION, FEED_FORWARD, Family

LATTE = Family(
    name="latte",
    classes=("LatteTransformer3DModel",),
    blocks=r"(?:temporal_)?transformer_blocks\.(\d+)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        ("attn2.to_k", "attn2.to_v"),
    ),
    # Modulation is a table in each block, not a Linear.
    roles=((FEED_FORWARD, r"\.ff\."), (ATTENTION, r"\.attn[12]\.")),
)
