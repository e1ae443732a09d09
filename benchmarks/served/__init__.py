"""What always serving with one engine costs under load, beside the pick of `select`."""
