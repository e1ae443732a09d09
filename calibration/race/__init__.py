"""The race of the candidates: who is launched next, who is out, when it is over."""
