"""The weights, what they think of a completion, and what they write."""
