"""How a recipe's statistics are gathered: on recorded calls, block by block, or while the pipeline runs.

Decided here alone. Ranges are numbers and vectors: those of all layers are gathered in one run of the pipeline, over
all steps of all inputs, and a largest value is the better for each call that was looked at. A Hessian is [K, K] of
every input, so that those of a large model do not fit into memory at once and the pipeline would be run again and
again. So what needs one is calibrated on the calls of a few steps, which are recorded once and then go through the
denoiser block by block: of 32 inputs with 50 steps, 354 steps of the pipeline and 32 of the denoiser stand for 1,600 a
pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from quant.algorithms.table import needs_of
from quant.families.table import DENOISERS
from quant.recipe import Recipe
from quant.recipe_parts import COMPRESSED

#: Steps of each denoiser that are recorded where nothing else is asked for.
STEPS = 32


def takes_calls(recipe: Recipe) -> bool:
    """Whether a recipe is calibrated on recorded calls, where there can be any."""
    return recipe.calibration.inputs == COMPRESSED or any(needs_of(group).hessian for group in recipe.groups)


def not_recorded(components: Sequence[str]) -> str | None:
    """Why calls of some components cannot be recorded, in words; None where they can."""
    other = next((name for name in components if name not in DENOISERS), None)
    return None if other is None else f"'{other}' is no denoiser, and only calls of denoisers are recorded"
