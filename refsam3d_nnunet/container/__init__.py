"""Submission folders for challenges: `refsam3d container`."""
