"""Networks and how they run: front end, Spec-CNN, Score-CAM, static graphs, bundles, engines."""
