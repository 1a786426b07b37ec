"""Affine quantization of real tensors: conventions, parameters, formats, and the error of each choice."""
