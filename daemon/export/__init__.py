"""Records as other programs take them: Raven selection tables, CSV, SigMF."""
