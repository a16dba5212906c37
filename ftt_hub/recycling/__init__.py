"""Recycle, then fine-tune, for each new version of a base (Lin et al. 2025, §5 and §6)."""
