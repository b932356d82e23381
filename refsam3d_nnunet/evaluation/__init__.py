"""Metrics of predictions, per case and class: `refsam3d evaluate`."""
