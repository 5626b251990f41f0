"""Measuring: speed and memory, what clusters are like, the paper's tables."""
