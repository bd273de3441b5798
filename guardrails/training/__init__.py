"""How the data files of `guardrails/data` are made. Needed by no gateway."""
