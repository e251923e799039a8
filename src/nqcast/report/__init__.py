"""What a reader sees of a run: the page, its figures, its words."""
