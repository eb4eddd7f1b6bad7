"""skillnet: one sparsely activated Transformer for text, sound, image, video and code."""

__version__ = "0.1.0"
