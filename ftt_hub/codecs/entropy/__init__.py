"""Lossless coding of planes and symbols."""
