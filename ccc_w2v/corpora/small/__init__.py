"""A small corpus that any machine can fetch and train on."""
