"""What a reader sees of a run: one HTML file that needs no other, and the model card of a checkpoint."""
