"""How the weights of each quant format are coded, and what the codes mean."""
