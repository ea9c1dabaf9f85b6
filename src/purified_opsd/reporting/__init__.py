"""What a run leaves behind, and how it is looked at.  Never imports torch."""
