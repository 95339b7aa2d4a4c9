"""The tests: unit, contracts, integration against real servers, end to end with the installed command."""
