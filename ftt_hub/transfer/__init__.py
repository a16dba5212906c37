"""Target + λΔ: plan it, prepare the target, write it to disk or add it while loading."""
