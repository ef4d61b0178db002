"""Predictors loaded from artifacts of the store."""
