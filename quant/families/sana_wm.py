"""SANA-WM: Sana-Video's blocks with a camera, and attention by a gated delta rule in most of them."""

from quant.families.base import ATTENTION, FEED_FORWARD, Family

SANA_WM = Family(
    name="sana-wm",
    classes=("SanaWMTransformer3DModel",),
    blocks=r"blocks\.(\d+)\.",
    # Frames that are only padding are zeroed before all of these but the output's gate.
    shared_inputs=(("attn.qkv", "attn.q_proj_cam", "attn.k_proj_cam", "attn.v_proj_cam", "attn.output_gate"),),
    keep=((r"\.attn\.(beta|gate)_proj$", "says how fast whole heads forget, in as many rows as there are heads"),),
    # Modulation is a table in each block, not a Linear.
    roles=((FEED_FORWARD, r"\.mlp\."), (ATTENTION, r"\.(cross_)?attn\.")),
)
