"""Experiment planners that nnU-Net finds by name."""
