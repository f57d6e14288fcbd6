"""Re-analysis of archives: the daemon's stages over folders of recordings, on many processes or machines."""
