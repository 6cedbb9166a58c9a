"""Problems and prompts: datasets, benchmarks, generated tasks, and the screening and order of training problems."""
