"""`python -m jensen` is the `jensen` command."""

from jensen.cli import main

if __name__ == "__main__":
    main()
