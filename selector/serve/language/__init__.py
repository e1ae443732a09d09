"""What a model's tokens mean: text to tokens, chats to text, and tokens to text while they come."""
