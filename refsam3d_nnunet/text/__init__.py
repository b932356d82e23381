"""Class names: how they are written, and what a text encoder makes of them."""
