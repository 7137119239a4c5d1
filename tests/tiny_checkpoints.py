"""One tiny pipeline on disk, and one checkpoint of each recipe made from it, for all tests of a worker."""

from pathlib import Path

import pytest

import quant

RECIPES = ("fp8-dynamic", "fp8-static", "w8a8")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_pipeline import save_pipeline  # diffusers: seconds, which tests without a model do without

    return save_pipeline(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def checkpoints(model_folder: Path) -> dict[str, Path]:
    """Full pipeline folders by recipe; not to be changed."""
    from tests.tiny_pipeline import PROMPTS

    made = {}
    for recipe in RECIPES:
        folder = model_folder.parent / recipe
        quant.calibrate(model_folder, recipe, folder, prompts=PROMPTS, full=True, progress=False)
        made[recipe] = folder
    return made
