"""Readers of program files, ONNX and Paddle's two, into the form of ``graph``."""
