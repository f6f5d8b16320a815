"""The verbs: one file each, its settings and what it does with them. The command line and Python call the same."""
