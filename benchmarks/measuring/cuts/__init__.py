"""How well times on a few layers tell those of the whole model: what a race may believe of it, fitted to launches."""
