"""Studies that run a recipe many times: ablations, cross-validation and tuning."""
