"""The nouns: frozen values with units, and nothing that reads a clock, a disk or a network."""
