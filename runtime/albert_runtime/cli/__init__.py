"""`albert-predict`."""
