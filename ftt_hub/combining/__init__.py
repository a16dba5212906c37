"""Combining diff vectors: several adapters in, one adapter or one merged checkpoint out."""
