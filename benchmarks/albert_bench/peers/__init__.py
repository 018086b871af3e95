"""The libraries that are compared, one module for each."""
