"""callboard: coordination for crews of coding agents in one repository, served over MCP.

Its one idea: every coordination operation is one tool, one typed function, one transaction.
"""

__version__ = "0.1.0"
