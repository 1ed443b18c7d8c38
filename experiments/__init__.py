"""One command per claim, table or figure; see the module docstrings."""
