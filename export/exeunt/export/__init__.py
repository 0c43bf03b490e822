"""Model families, splitting into segments, ONNX, parity and the bundle writer."""
