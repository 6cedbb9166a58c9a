"""From judged samples to figures that one can quote: estimates with 95 % intervals, and two evaluations side by side."""
