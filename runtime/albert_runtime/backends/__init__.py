"""What runs a model: the C++ engine, ONNX Runtime, Paddle Inference, TensorRT."""
