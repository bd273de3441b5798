"""Chat front ends that say more than OpenAI's API has words for, and show more; each is a key's own, and off by default."""
