"""What only the lessons need; the method imports nothing from here."""
