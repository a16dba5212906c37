"""Finding adapters: browse a registry, look at one, rank them for a target, record verdicts."""
