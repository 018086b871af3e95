"""One export: the stages, the processes they run in, and how their files are published."""
