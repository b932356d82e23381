"""The published weights: a registry, a folder for them, and how they come there."""
