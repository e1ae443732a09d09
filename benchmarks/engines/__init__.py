"""The engines themselves: what their releases have, what their conversions take, what they answer with a real model."""
