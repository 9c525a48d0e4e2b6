"""A league of methods on several sets of recordings: pre-training, rivals, from scratch, and plain classifiers."""
