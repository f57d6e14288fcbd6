"""Measurements of the running daemon for ``tonald bench``: latency, start-up, memory."""
