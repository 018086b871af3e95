"""One export: the stages, the processes they run in, and what becomes of their files."""
