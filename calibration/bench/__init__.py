"""Speed against others: contestants, rounds, results. Needs the libraries of the ``train`` extra."""
