"""The libraries that are compared, one module for each."""

import sys

# OpenVINO and NNCF do without the package that reports their use, which has no variable to turn it off.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
