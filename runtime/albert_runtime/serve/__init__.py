"""albert-serve: exported models served over HTTP and gRPC. Needs the extra `serve`."""
