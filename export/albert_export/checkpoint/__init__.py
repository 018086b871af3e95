"""Checkpoints of PaddleNLP and Hugging Face, read without executing anything in them."""
