"""The training loop, and how a run survives."""
