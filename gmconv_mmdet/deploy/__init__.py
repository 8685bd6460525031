"""Shipping: folded detectors for stock mmdet, and ONNX."""
