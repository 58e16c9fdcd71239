"""python -m techo."""

from techo._cli import entry

if __name__ == "__main__":
    entry()
