"""Records of a run for people and tools: files, console, trackers, plots, model card, dashboard."""
