"""Any torch module, without a checkpoint, to other runtimes."""
