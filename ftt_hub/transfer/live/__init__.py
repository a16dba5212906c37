"""Diff vectors on models that are in memory already: added, scaled, swapped, and taken off."""
