"""`make bench-gpu`: the engine on an NVIDIA GPU beside compiled torch, ONNX Runtime and TensorRT."""
