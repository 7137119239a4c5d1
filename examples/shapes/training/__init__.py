"""How the shapes pipeline and its metric networks are made; `../train.py` runs it."""
