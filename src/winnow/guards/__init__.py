"""Guards of a run: numbers that are not finite, updates that are wrong and curves that go astray are noticed."""
