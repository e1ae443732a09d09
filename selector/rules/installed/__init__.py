"""What the packages installed beside an engine have: architectures, model classes, and which release brought them."""
