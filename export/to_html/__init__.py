"""HTML: a network, the runtime and everything around them in one file that a browser opens."""
