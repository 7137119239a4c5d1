"""MiniMax-H3: video and audio in one sequence, modulated by a table of timesteps and modalities."""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

MINIMAX_H3 = Family(
    name="minimax-h3",
    classes=("MiniMaxH3Transformer3DModel",),
    blocks=r"(?:transformer_blocks|token_refiner\.refiner_blocks)\.(\d+)\.",
    shared_inputs=(("attn.to_q", "attn.to_k", "attn.to_v"),),
    roles=(
        (MODULATION, r"\.adaln_proj\.linear$"),
        (FEED_FORWARD, r"\.ff\."),
        (ATTENTION, r"\.attn\."),
    ),
)
