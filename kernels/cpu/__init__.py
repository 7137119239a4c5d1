"""Loops for the CPU that quantizes a file: C sources, compiled by the machine's own compiler when they are first used."""
