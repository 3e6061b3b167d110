"""The ResNet family: descriptions, weights, labels, names."""
