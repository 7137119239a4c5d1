"""From a model and a recipe to what every layer becomes: the plan, the statistics, the solutions."""
