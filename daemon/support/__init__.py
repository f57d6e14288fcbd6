"""One archive for whoever is asked for help: what this machine is, what the daemon said, and no secret."""
