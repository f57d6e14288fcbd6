"""Sound-card capture in a child process of its own, over a shared-memory ring."""
