"""Servers under load: albert-serve, and the same model behind ONNX Runtime one by one and in batches."""
