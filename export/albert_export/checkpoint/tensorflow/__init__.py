"""TensorFlow checkpoints of google-research/albert and brightmart's albert_zh, read without TensorFlow."""
