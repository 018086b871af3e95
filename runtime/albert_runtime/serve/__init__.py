"""albert-serve: exported models behind HTTP and gRPC; the extra `serve`."""
