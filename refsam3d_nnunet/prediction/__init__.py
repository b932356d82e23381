"""Prediction by free text: `refsam3d predict` and `refsam3d prompts`."""
