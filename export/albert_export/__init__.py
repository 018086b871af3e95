"""Export of ALBERT to a Paddle program and an ONNX graph that share one weight file (`albert-export`)."""

from albert_runtime.telemetry import turn_telemetry_off

turn_telemetry_off()  # before any module imports ONNX Runtime
