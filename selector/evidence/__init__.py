"""What the cache knows of candidates on this device: their launches, whose these are, and who is fastest by them."""
