"""``python -m sb3_esac.zoo``."""

from sb3_esac.zoo.cli import main

if __name__ == "__main__":
    main()
