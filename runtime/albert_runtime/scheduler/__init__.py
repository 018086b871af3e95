"""Many callers, one engine: their requests wait in a queue and run joined in packed batches."""
