"""Benchmarks of the engine against other inference libraries: ``albert-bench ARTIFACT``."""

from albert_runtime.telemetry import turn_telemetry_off

turn_telemetry_off()  # before any module imports ONNX Runtime
