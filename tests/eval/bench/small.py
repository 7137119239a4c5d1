"""Models with the structure of the real ones, small enough to run on a CPU."""

from quant.eval.bench.sizes import Model, models


def small(name: str, *, d: int = 64) -> Model:
    """The model of this name with 2 heads, 24 tokens of video and 8 of text; scales of 128 columns need d = 128."""
    return models()[name]._replace(d=d, ff=4 * d, heads=2, head_dim=d // 2, video_tokens=24, text_tokens=8)


def kept(model: Model) -> tuple[str, ...]:
    """The Linears of a block that diffusers declares to be kept in high precision."""
    return ("norm1.linear", "norm1_context.linear") if model.kind == "dual" else ()
