"""The model zoo of transformers: every architecture, tiny, in every spelling of its checkpoints."""
