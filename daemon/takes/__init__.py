"""Sound on disk as it was captured: files without a gap inside, each with a side-car that says what it is."""
