"""The model of times: Gaussian processes over hosts, models and candidates, and samples of what they say."""
