"""Jobs compared: tables, pictures and a page over all runs in a folder.

Imports sweep.records, and nothing else of sweep.
"""
