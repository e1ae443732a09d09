"""The table of rules: all of them, in the order in which they run and in which a verdict gives its reasons."""

from selector.rules import architecture, device, install, memory, model, quant
from selector.rules.rule import rules_of

RULES = rules_of(install, device, model, architecture, quant, memory)
