"""The latest sound of all channels on disk, and what was frozen of it."""
