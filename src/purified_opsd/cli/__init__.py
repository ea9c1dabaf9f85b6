"""The command line: a file a command, named like it, loaded by main.py when it is given."""
