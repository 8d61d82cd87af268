"""`python -m resight`: the command `resight`."""

from resight.cli import main

if __name__ == "__main__":
    main()
