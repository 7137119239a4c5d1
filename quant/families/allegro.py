"""Allegro (arXiv 2410.15458)."""

from quant.families.base import ATTENTION, FEED_FORWARD, Family

ALLEGRO = Family(
    name="allegro",
    classes=("AllegroTransformer3DModel",),
    blocks=r"transformer_blocks\.(\d+)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        ("attn2.to_k", "attn2.to_v"),
    ),
    # Modulation is a table in each block, not a Linear.
    roles=((FEED_FORWARD, r"\.ff\."), (ATTENTION, r"\.attn[12]\.")),
)
