"""Checkpoints without the frozen image encoder, and the one file that holds it for all."""
