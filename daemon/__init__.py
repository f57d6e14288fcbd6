"""The streaming service: sources, pipeline, publisher, command line."""
