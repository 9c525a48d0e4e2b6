"""The targets onnx and onnx-step."""
