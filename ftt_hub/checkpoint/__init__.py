"""Model checkpoints: lazily read, atomically written, in a folder or on the Hub."""
