"""HunyuanVideo, its image-to-video models and FramePack (arXiv 2412.03603)."""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

HUNYUAN_VIDEO = Family(
    name="hunyuan-video",
    classes=("HunyuanVideoTransformer3DModel", "HunyuanVideoFramepackTransformer3DModel"),
    blocks=r"(?:single_)?transformer_blocks\.(\d+)\.",
    shared_inputs=(
        # In a single block the feed-forward network reads what attention reads, video and text in one sequence.
        ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    ),
    roles=(
        (MODULATION, r"\.norm(1|1_context)?\.linear$"),
        # A single block's proj_out takes attention and feed-forward network back to the residual stream in one.
        (FEED_FORWARD, r"\.ff(_context)?\.|\.proj_(mlp|out)$"),
        (ATTENTION, r"\.attn\."),
    ),
)
