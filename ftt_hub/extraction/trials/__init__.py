"""Lossy codecs tried on held-out text before one is chosen."""
