"""Where adapters live: the Hugging Face Hub, or a folder. Registries move folders, no tensors."""
