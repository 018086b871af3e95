"""The libraries that are compared, one module for each."""

import sys

from albert_runtime.telemetry import turn_telemetry_off

turn_telemetry_off()
# OpenVINO and NNCF do without the package that reports their use, which has no variable to turn it off.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
