"""Documentation as it is run: pages, their blocks, and the shell that plays them."""
