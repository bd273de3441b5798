"""The gateway service: one OpenAI-compatible door in front of every language model."""
