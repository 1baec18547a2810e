"""What the chapters show: figures, tables, sliders. It may use the study and the core; neither uses it."""
