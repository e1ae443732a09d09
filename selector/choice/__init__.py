"""From what is known to an answer: the candidates, the pick among them, and the advice beside it; or a refusal."""
