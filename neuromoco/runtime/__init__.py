"""Classify with what training left: an ONNX file, a Loihi folder or a checkpoint; only the checkpoint needs torch."""
