"""The runner behind the result tables, and what the tables say."""
