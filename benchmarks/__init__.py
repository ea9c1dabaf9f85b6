"""What the project costs, measured against the floor and against its peers: `python -m
benchmarks.loss` and its neighbours.
"""
