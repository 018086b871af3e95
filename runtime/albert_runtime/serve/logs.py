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


def set_up(level: str) -> None:
    """Send the process' logs to standard error: of libraries only what is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("albert_serve", "albert_runtime"):
        logging.getLogger(name).setLevel(level.upper())
    logging.captureWarnings(True)
