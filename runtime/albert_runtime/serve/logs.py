"""Log lines in JSON on standard error, one an event: never a user's text.

An error is told by its type and the way to it, for its message may hold what a user sent.
"""

import json
import logging
import sys
import time
import traceback


class Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
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


def _is_wrong(record: logging.LogRecord) -> bool:
    """Whether gRPC's line tells of more than a client that went.

    A client whose own deadline passes hangs up just when the server answers that it has; gRPC logs an answer
    that it can no longer send as an error. The request is counted under its own outcome by then.
    """
    return not (record.exc_info and getattr(record.exc_info[0], "__name__", "") == "ExecuteBatchError")


def set_up(level: str) -> None:
    """Send the process' logs to standard error: of libraries only what is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("albert_serve", "albert_runtime"):
        logging.getLogger(name).setLevel(level.upper())
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_wrong)
    logging.captureWarnings(True)
