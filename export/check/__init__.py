"""Whether an export answers as its source does."""
