"""Figures, tables and comparisons from results files alone: no GPU, no binary.

`python -m plots --help` lists the commands. results.py is the one place that knows the files'
schema; a figure is one module figure_<name>.py, found by its file name.
"""
