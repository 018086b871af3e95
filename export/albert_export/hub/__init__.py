"""Published weights and tokenizer files, over the network into a cache."""
