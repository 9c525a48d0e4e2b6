"""Events in text, one a line."""
