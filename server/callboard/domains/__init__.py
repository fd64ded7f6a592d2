"""The domains: each module is one noun of coordination, with its SQL, its refusals and its tools."""
