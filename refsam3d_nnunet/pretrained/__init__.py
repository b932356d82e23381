"""Checkpoints of SAM, MedSAM and plain ViTs, carried over into the volumetric network."""
