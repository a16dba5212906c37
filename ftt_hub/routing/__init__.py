"""Which adapter for which input: nearest examples, small groups, Δ swapped in place."""
