"""The network: a volumetric SAM image encoder, text-made prompts and a mask decoder."""
