"""Guards: what asks callboard before a file is written or committed, outside the MCP server.

A lock binds only those who ask. So hooks of coding clients ask for the agent before each edit, and hooks of
git before each commit and push. They run in processes of their own, many times an hour, and must never be in
the way: the asking half of this package loads next to nothing, reads the store and changes nothing, and
whatever it cannot find out it lets pass, with one line that says why.
"""
