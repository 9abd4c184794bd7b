"""Tasks that create todos."""
