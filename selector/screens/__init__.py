"""What a user sees, as text; nothing here prints."""
