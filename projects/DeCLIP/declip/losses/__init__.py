"""What the student learns: content (Eq. 7) and context (Eq. 8-9)."""
