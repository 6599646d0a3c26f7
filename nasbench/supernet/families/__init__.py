"""Families of supernets, one file each."""
