"""HunyuanVideo 1.5 (arXiv 2511.18870)."""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

HUNYUAN_VIDEO_15 = Family(
    name="hunyuan-video-15",
    classes=("HunyuanVideo15Transformer3DModel",),
    blocks=r"transformer_blocks\.(\d+)\.",
    shared_inputs=(
        ("attn.to_q", "attn.to_k", "attn.to_v"),
        ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    ),
    roles=(
        (MODULATION, r"\.norm1(_context)?\.linear$"),
        (FEED_FORWARD, r"\.ff(_context)?\."),
        (ATTENTION, r"\.attn\."),
    ),
)
