"""What a model can do, and what a difference is worth."""
