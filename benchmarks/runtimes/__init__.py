"""How other runtimes answer from portable ONNX files, in a table."""
