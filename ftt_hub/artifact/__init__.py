"""The artifact: `adapter_model.safetensors`, its index, and the folder around it."""
