"""Loops for the CPU that quantizes a file: C sources, compiled by the machine's compiler when first used."""
