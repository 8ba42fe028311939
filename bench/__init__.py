"""Measures whole runs against what the machine could do at most: `python -m bench`. Never asserts a time."""
