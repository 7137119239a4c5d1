"""How long whole pipelines take: measured by stage, and a step of one predicted for a GPU that is not at hand."""
