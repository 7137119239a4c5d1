"""VBench from an environment of its own: it pins old packages and wants CUDA, so it is no dependency."""
