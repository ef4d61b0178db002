"""The judge and the knowledge writer: language models over data sets of prompts, cached, resumable, and audited."""
