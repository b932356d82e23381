"""Trainers that nnU-Net finds by name."""
