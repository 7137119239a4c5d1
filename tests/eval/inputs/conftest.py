"""The tiny models that tests of runs have."""

from tests.eval.runs.conftest import models

__all__ = ["models"]
