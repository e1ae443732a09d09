"""What each release of the engines has, read from its package as files, for the facts beside the backends."""
