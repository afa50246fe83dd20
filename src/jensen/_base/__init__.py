"""The ground: errors, argument checks, array types, one caller at a time."""
