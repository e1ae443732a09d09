"""Keeps an engine serving: starts it, notices a hang, starts it again; requests wait or are refused meanwhile."""
