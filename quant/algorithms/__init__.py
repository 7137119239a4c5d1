"""From statistics and weights to scales and smoothing factors: pure functions, one file an algorithm."""
