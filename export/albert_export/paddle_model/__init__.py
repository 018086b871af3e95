"""ALBERT in paddle.nn, and its Paddle program and weight file."""
