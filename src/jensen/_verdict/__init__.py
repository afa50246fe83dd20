"""How far to trust an answer: importance weights, a kinetic test, the verdict, the evidence."""
