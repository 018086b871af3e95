"""Load tests: albert-serve, and the same model on ONNX Runtime one by one and in padded batches."""
