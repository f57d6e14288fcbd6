"""Methods that need neither truth nor a class: what the product must beat, on the same windows."""
