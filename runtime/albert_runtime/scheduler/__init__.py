"""Scheduling: the requests of many callers wait in one queue and run together in packed batches."""
