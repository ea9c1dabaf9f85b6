"""All that makes the miniature's weights."""
