"""What the daemon says of itself to those who watch machines: status file, metrics, a line for the service manager."""
