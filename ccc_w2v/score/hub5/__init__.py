"""Scoring of telephone conversations by NIST's rules: .stm segments, a .glm mapping, alternatives."""
