"""An exported model's files: the manifest and what it says of them."""
