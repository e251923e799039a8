"""Whether bars can be believed: row by row, as a series, by their stamps, by their contract."""
