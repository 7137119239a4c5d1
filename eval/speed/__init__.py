"""How long a transformer block takes: predicted by a roofline model, or measured on a GPU."""
