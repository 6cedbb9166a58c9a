"""From prompts to optimiser batches: everything of an iteration that happens before the first gradient."""
