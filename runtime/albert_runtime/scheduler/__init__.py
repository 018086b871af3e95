"""Scheduling: the requests of many callers wait in one queue and run together in packed batches."""

from .requests import Part, Request, RunBatch, run_parts
from .scheduler import DEFAULT_TOKENS, PATIENCE, BatchStats, Scheduler

__all__ = [
    "DEFAULT_TOKENS",
    "PATIENCE",
    "BatchStats",
    "Part",
    "Request",
    "RunBatch",
    "Scheduler",
    "run_parts",
]
