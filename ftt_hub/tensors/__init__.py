"""Tensors as raw bits: dtypes, roundings and the safetensors file they lie in."""
