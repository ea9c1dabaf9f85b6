"""Settings from YAML and the command line to frozen dataclasses, and what is said of them."""
