"""How the report's intervals are made, for a reader who knows some statistics."""

STATISTICS = (
    "A run is one observation: intervals are over seeds, Student's t, 95 %, however many prompts or iterations a run has. They "
    "say what other seeds would give with the same prompts; intervals over prompts, where given, are about other prompts with "
    "these seeds.",
    "Arms are compared in pairs, seed by seed: runs of one seed see the same prompts and, while their policies agree, the same "
    "samples, so that what a seed brings to both cancels. Entropies and KLs are compared by their ratio, on logarithms.",
    "Late is the last quarter of a run's iterations, early the first one; the report does not pick its windows.",
    "Claims of one table or figure that something is greater or less are tested together: their p-values are "
    "adjusted by Holm's method, so that a false claim among them is made in 5 % of such families at most.",
    "Inside noise: the test, so adjusted, does not tell the difference from none. It is not evidence of no difference; the "
    "sentence says how large a difference would have been found four times in five.",
    "“About the same” and “no greater” hold only where the whole interval lies within a margin that was set before any run: 2 "
    "points, or a factor of 1.25.",
    "Bands around curves hold point by point, not for a whole curve. Two runs that measured the same, or a single one, give no "
    "interval: figures then show the mean alone, hollow.",
)
AT_ITS_BEST = (
    "Each algorithm at the best of its own settings of the optimiser. A seed's setting is the one with the best late accuracy over "
    "the other seeds, so that the luck that picks a setting is not counted again when it is judged."
)
