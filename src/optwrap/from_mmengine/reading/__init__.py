"""Reading a config of MMEngine without it: its bases, what it imports, what it holds while it is read."""
