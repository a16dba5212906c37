"""Making a diff vector: two checkpoints in, an adapter folder out, in flat memory."""
