"""Families of supernets, a file or a package each."""
