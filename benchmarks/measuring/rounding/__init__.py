"""How far right candidates in 16 bits stand from the reference, and how far the mildest errors do."""
