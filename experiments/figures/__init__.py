"""One command for each table and figure of the papers: ``python -m experiments.figures.NAME``."""
