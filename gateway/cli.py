"""The command line: serve, check, ask, ingest, keys."""
