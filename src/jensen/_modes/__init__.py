"""Where the mass is: climbs, distinct modes, equivalent labellings, and posteriors without an integral."""
