"""Cosmos 1, 2 and 2.5 (arXiv 2501.03575)."""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

COSMOS = Family(
    name="cosmos",
    classes=("CosmosTransformer3DModel",),
    blocks=r"transformer_blocks\.(\d+)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        ("attn2.to_q", "attn2.q_img"),  # 2.5 attends to an image also
        ("attn2.to_k", "attn2.to_v"),
        ("attn2.k_img", "attn2.v_img"),
    ),
    roles=(
        (MODULATION, r"\.norm[123]\.linear_[12]$"),
        (FEED_FORWARD, r"\.ff\."),
        (ATTENTION, r"\.attn[12]\."),
    ),
)
