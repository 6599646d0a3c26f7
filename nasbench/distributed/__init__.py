"""Distribution: the only door to Ray."""
