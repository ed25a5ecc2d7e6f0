"""Measurements of speed, size and correctness, as ratios within one run."""
