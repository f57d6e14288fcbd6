"""One file per kind of source; all speak the Source protocol of daemon.frames."""
