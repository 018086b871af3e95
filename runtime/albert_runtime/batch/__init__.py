"""A batch in any form a caller may pass, packed: its tokens one after another, no padding among them."""
