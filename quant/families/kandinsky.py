"""Kandinsky 5 (arXiv 2511.14993), Kandinsky 6 with its audio, and its super-resolution."""

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, Family

KANDINSKY = Family(
    name="kandinsky",
    classes=("Kandinsky5Transformer3DModel", "Kandinsky6Transformer3DModel", "Kandinsky6SRTransformer3DModel"),
    blocks=r"(?:(?:video_|audio_)?text|visual)_transformer_blocks\.(\d+)\.",
    shared_inputs=(
        # What a stream of Kandinsky 6 asks the text with, the other stream attends to.
        ("video_dec_block.cross_attention.to_query", "av_cross_attention.to_key", "av_cross_attention.to_value"),
        ("audio_dec_block.cross_attention.to_query", "va_cross_attention.to_key", "va_cross_attention.to_value"),
        ("self_attention.to_query", "self_attention.to_key", "self_attention.to_value"),
        ("attn.to_query", "attn.to_key", "attn.to_value"),
        ("cross_attention.to_key", "cross_attention.to_value"),
    ),
    roles=(
        (MODULATION, r"modulation\.out_layer$"),
        (FEED_FORWARD, r"\.feed_forward\."),
        (ATTENTION, r"attention\.|\.attn\."),
    ),
)
