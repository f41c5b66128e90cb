"""What a run needs and no project wants to write again."""
