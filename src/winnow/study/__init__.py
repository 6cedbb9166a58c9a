"""Runs beside each other: arms with several seeds, differences with intervals, and what a paper claimed of them."""
