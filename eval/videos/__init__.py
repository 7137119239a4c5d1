"""How a pipeline makes videos, and how they lie on disk."""
