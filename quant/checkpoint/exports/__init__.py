"""Under which names quantized components are written, and what their config.json then says."""
