"""The stages that train the gen1 pipeline, called by train.py."""
