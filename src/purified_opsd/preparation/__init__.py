"""A training set made of another: sampled, checked, and written with a manifest."""
