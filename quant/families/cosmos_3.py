"""Cosmos 3: a language model's layers with a second set of weights for what is generated."""

from quant.families.base import ATTENTION, FEED_FORWARD, Family

COSMOS_3 = Family(
    name="cosmos-3",
    classes=("Cosmos3OmniTransformer",),
    blocks=r"layers\.(\d+)\.",
    shared_inputs=(
        ("self_attn.to_q", "self_attn.to_k", "self_attn.to_v"),
        ("self_attn.add_q_proj", "self_attn.add_k_proj", "self_attn.add_v_proj"),
        ("mlp.gate_proj", "mlp.up_proj"),
        ("mlp_moe_gen.gate_proj", "mlp_moe_gen.up_proj"),
    ),
    # The timestep is added to the tokens that are generated; there is no modulation.
    roles=((FEED_FORWARD, r"\.mlp(_moe_gen)?\."), (ATTENTION, r"\.self_attn\.")),
)
