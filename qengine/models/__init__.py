"""Files that hold tensors and models."""
