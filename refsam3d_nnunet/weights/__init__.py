"""Weights of published checkpoints, carried over into the volumetric network."""
