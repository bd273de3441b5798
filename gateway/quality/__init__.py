"""How good answers are, judged beside a sample of the calls: off the path, and on the record."""
