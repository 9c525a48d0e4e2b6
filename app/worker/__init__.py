"""Work on files that strangers send, in a process with limits."""
