"""Experiments of the paper and beyond it, on the simulated ocean, beside the peers."""
