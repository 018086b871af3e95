"""The parts of tools/train_python_albert.py: text, tokenizer, masked batches, network, checkpoint."""
