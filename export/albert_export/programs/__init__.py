"""Programs that were exported elsewhere, ONNX or Paddle: the ALBERT in them, taken out with its weights."""
