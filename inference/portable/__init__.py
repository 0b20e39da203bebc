"""Models for programs that have no PyTorch: the whole way from HU to probabilities as one ONNX graph."""
