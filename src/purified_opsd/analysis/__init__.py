"""What a model's text and its teacher's pull look like from outside."""
