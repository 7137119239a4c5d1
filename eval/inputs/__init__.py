"""What an evaluation starts from: its configuration, models, prompts with seeds, and real clips."""
