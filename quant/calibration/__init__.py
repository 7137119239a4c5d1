"""Runs a model over prompts and collects what the algorithms ask for."""
