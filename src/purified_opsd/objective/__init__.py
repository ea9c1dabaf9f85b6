"""The paper's mathematics: what the student is pulled to, how hard, and why.  torch only."""
