"""The graph of a network that all targets are written from, and how a torch module becomes one."""
