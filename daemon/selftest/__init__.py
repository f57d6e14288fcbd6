"""A known signature is put in digitally, and must come out at a subscriber; every record of it says ``test: true``."""
