"""Checks on text and on streams of text: what they find, and what is done about it."""
