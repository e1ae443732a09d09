"""What always taking one engine costs beside the pick of `select`, on models that were calibrated."""
