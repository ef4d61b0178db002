"""The recipes, one file each, read top to bottom as the figure of their paper."""
