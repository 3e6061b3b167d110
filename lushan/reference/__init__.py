"""What each operator means: NumPy, any float type, forward and backward side by side."""
