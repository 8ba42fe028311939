"""Kills real processes at random while runs go on, then checks the log: `python -m tests.chaos`."""
