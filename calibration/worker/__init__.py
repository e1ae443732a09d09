"""What runs in a backend's own interpreter: the standard library only, engines are imported when they load."""
