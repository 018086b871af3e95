"""The libraries that are compared, a module each."""
