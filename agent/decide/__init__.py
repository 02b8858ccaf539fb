"""The mind: an ordered table of pure rules, and an independent second look that can only veto."""

from agent.decide.attention import Ask, worth_asking
from agent.decide.objections import object_to
from agent.decide.table import RULES, Rule, decide

__all__ = ["RULES", "Ask", "Rule", "decide", "object_to", "worth_asking"]
