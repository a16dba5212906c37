"""The main job on a real model: make, publish, find, check and load a transfer adapter."""
