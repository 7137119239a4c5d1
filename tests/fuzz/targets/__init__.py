"""The list of targets; each file holds those of one room."""

from tests.fuzz.target import Target
from tests.fuzz.targets.checkpoints import CHECKPOINTS
from tests.fuzz.targets.inputs import INPUTS
from tests.fuzz.targets.recipes import RECIPES
from tests.fuzz.targets.runs import RUNS

TARGETS: tuple[Target, ...] = (*CHECKPOINTS, *INPUTS, *RECIPES, *RUNS)
