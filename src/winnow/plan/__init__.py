"""Planning of a run before there is a machine for it: memory, time and cost, from sizes, rates and assumptions."""
