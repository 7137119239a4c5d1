"""The published weights of metric networks: which package holds them, and how they get into the cache."""
