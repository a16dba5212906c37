"""Approximations of Δ: rotated rounding, leading components, factors, and the rate they need."""
