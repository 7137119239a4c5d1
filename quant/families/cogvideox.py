"""CogVideoX (arXiv 2408.06072) and ConsisID, which adds a face to it (arXiv 2411.17440)."""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

COGVIDEOX = Family(
    name="cogvideox",
    classes=("CogVideoXTransformer3DModel", "ConsisIDTransformer3DModel"),
    # ConsisID's perceiver attends to the face after every second block.
    blocks=r"(?:transformer_blocks|perceiver_cross_attention)\.(\d+)\.",
    shared_inputs=(("attn1.to_q", "attn1.to_k", "attn1.to_v"),),
    roles=(
        (MODULATION, r"\.norm[12]\.linear$"),
        (FEED_FORWARD, r"\.ff\."),
        (ATTENTION, r"\.attn1\.|^perceiver_cross_attention\."),
    ),
)
