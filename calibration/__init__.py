"""What makes a bundle trustworthy: simulated ocean, recordings, class masks, thresholds, measures."""
