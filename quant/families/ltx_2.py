"""LTX-2, video with its audio (arXiv 2601.03233), and the refiner of SANA-WM, which is built as it is."""

from quant.families.base import ATTENTION, FEED_FORWARD, Family

LTX_2 = Family(
    name="ltx-2",
    classes=("LTX2VideoTransformer3DModel", "SanaWMLTX2RefinerTransformer3DModel"),
    blocks=r"transformer_blocks\.(\d+)\.",
    shared_inputs=(
        ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_gate_logits"),
        ("audio_attn1.to_q", "audio_attn1.to_k", "audio_attn1.to_v", "audio_attn1.to_gate_logits"),
        # The other attentions look from one stream at another: at the text, at the audio, at the video.
        ("attn2.to_q", "attn2.to_gate_logits"),
        ("attn2.to_k", "attn2.to_v"),
        ("audio_attn2.to_q", "audio_attn2.to_gate_logits"),
        ("audio_attn2.to_k", "audio_attn2.to_v"),
        ("audio_to_video_attn.to_q", "audio_to_video_attn.to_gate_logits"),
        ("audio_to_video_attn.to_k", "audio_to_video_attn.to_v"),
        ("video_to_audio_attn.to_q", "video_to_audio_attn.to_gate_logits"),
        ("video_to_audio_attn.to_k", "video_to_audio_attn.to_v"),
    ),
    # LTX-2.5 gates every head by one number from a Linear of as many rows as there are heads.
    keep=((r"\.to_gate_logits$", "gates whole heads, in as many rows as there are heads"),),
    # Modulation is a table in each block, not a Linear.
    roles=((FEED_FORWARD, r"\.(audio_)?ff\."), (ATTENTION, r"attn[12]?\.")),
)
