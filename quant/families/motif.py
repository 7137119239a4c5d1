"""Motif-Video: HunyuanVideo's two kinds of blocks, with an attention to the text besides."""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

MOTIF = Family(
    name="motif",
    classes=("MotifVideoTransformer3DModel",),
    blocks=r"(?:single_)?transformer_blocks\.(\d+)\.",
    shared_inputs=(
        # In a single block the feed-forward network reads what attention reads, video and text in one sequence.
        ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        ("cross_attn.to_k", "cross_attn.to_v"),
    ),
    roles=(
        (MODULATION, r"\.norm(1|1_context)?\.linear$"),
        (FEED_FORWARD, r"\.ff(_context)?\.|\.proj_(mlp|out)$"),
        (ATTENTION, r"\.(cross_)?attn\."),
    ),
)
