"""A trained network as one file for other programs: torch's own program, ONNX."""
