"""`python -m cli`: the program `probe`."""

from cli.start import main

if __name__ == "__main__":
    main()
