"""Language models: loading, prompt templates, attention, policy and critic, adapters, and a memory estimate."""
