"""What keeps other people's libraries from reporting that they are used, and by whom."""

import os

# When ONNX Runtime is imported, 1.32 at least, it writes a device id and a database of events to the user's
# cache folder, and sends them.
_SETTINGS = {"ORT_DISABLE_TELEMETRY": "1"}


def turn_telemetry_off() -> None:
    """Call before such a library is imported; child processes inherit it. What the user has set stays."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
