"""What a machine needs before sea, looked at one thing after the other."""
