"""User features from Feast: online reads and pushes. `repo/` holds the definitions, and nothing else."""
