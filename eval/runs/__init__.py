"""Evaluations that survive: what was made and scored is on disk, by model and sample, before the next one begins."""
