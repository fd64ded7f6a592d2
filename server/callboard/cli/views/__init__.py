"""The board as people see it: one command for each view, made of what the reading tools answer."""
