"""Transforms of the second view: draw parameters, then apply them."""
