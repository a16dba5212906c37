"""What every layer may use: paths, references, staging, threads, progress, findings."""
