"""Language models over data sets of prompts: engines, endpoints, the answer ledger, knowledge and synthetic queries."""
