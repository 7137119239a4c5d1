"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# No deadline: a busy machine is no counterexample.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
