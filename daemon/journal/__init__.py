"""The journal: records that must not be lost, on disk before they are published, and replayed to who missed them."""
