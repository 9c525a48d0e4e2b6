"""Checks an ONNX file before a runtime sees it: only what our exporters write, of the geometry in its header."""
