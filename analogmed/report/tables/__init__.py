"""Layouts of tables for the terminal, Markdown and LaTeX."""
