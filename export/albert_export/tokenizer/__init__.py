"""A tokenizer.json from the files that ALBERT checkpoints come with."""
