"""Which scale? Held-out loss as a function of λ, searched with the model in memory."""
