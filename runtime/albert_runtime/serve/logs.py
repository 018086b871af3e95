"""The log: JSON lines on standard error, one for each event, without any text that a user sent.

An exception is logged as its type and traceback only, because its message may quote a user's text.
"""

import json
import logging
import sys
import time
import traceback


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, event, then the record's ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = "".join(traceback.format_tb(record.exc_info[2]))
        return json.dumps(line, ensure_ascii=False)


def _is_not_a_disconnect(record: logging.LogRecord) -> bool:
    """False for gRPC's errors about an answer that it could not send.

    A client whose deadline passes hangs up just when the server tells it so, and gRPC logs that as an error
    of the server's. The request has been counted under its own outcome by then.
    """
    return not (record.exc_info and getattr(record.exc_info[0], "__name__", "") == "ExecuteBatchError")


def configure(level: str) -> None:
    """Send the log of this process to standard error, from other libraries only warnings and errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("albert_serve", "albert_runtime"):
        logging.getLogger(name).setLevel(level.upper())
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_not_a_disconnect)
    logging.captureWarnings(True)
