"""Many symbols: the road from a vendor's file to a feature table, once per symbol and side by side."""
