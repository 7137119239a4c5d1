"""The trained networks that metrics look through: where their weights come from, and what goes into them."""
