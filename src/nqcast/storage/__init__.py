"""What is written is written whole or not at all, with a digest, and says so where the disk does not let it."""
