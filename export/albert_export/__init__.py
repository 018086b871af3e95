"""Export of ALBERT to a Paddle program and an ONNX graph that share one weight file (`albert-export`)."""
