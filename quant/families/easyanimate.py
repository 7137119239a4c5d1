"""EasyAnimate 5 and 5.1 (arXiv 2405.18991)."""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

EASYANIMATE = Family(
    name="easyanimate",
    classes=("EasyAnimateTransformer3DModel",),
    blocks=r"transformer_blocks\.(\d+)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        ("attn1.add_q_proj", "attn1.add_k_proj", "attn1.add_v_proj"),
    ),
    roles=(
        (MODULATION, r"\.norm[12]\.linear$"),
        (FEED_FORWARD, r"\.(txt_)?ff\."),
        (ATTENTION, r"\.attn1\."),
    ),
)
