"""Runtimes behind one small protocol: ``open_engine`` picks, proves and returns one.

An engine runs named static graphs and knows nothing of Score-CAM. Before it may serve it reproduces the bundle's
golden outputs within the manifest's tolerance for its precision (:func:`models.engines.golden.check`).
"""
