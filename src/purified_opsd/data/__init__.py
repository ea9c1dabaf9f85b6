"""Questions, references, and the contexts made of them."""
