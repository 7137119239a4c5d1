"""How long one transformer block takes: predicted by a roofline model, or measured on a GPU."""
