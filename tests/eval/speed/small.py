"""Models with the structure of the real ones, small enough to run on a CPU."""

from quant.eval.speed.sizes import Model, models


def small(name: str) -> Model:
    """The model of this name with 2 heads of 32, 24 tokens of video and 8 of text."""
    return models()[name]._replace(d=64, ff=256, heads=2, head_dim=32, video_tokens=24, text_tokens=8)
