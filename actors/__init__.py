"""The workers: a plain class each, one heavy resource each."""
