"""`quant eval` and its subcommands."""
