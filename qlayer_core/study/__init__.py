"""What the paper measured and what is measured here: the grid, the paper's numbers, records, tables, variants."""
