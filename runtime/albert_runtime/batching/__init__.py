"""Many callers, one engine: their requests wait in a queue and run joined in packed batches."""

from .batcher import DEFAULT_TOKENS, Batcher, Pass
from .requests import Request, Results

__all__ = ["DEFAULT_TOKENS", "Batcher", "Pass", "Request", "Results"]
