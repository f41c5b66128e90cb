"""A trained model in formats that other programs read, each file run and compared with the model it came from."""
