"""One command compares the engine with its peers, turn by turn, in one run: ``albert-bench ARTIFACT``."""
