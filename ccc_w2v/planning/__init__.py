"""The same run on other GPUs: recipe, plan, table, trial."""
