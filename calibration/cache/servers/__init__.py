"""A database that is named by a URL: where it is, how it is reached and used, and what its errors mean."""
