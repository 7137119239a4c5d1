"""Where models come from, what of them is read, and how they are run over prompts."""
