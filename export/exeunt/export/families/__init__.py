"""Model families that export knows how to split into segments."""
