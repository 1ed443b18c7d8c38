"""Videos of saved models: ``python -m sb3_esac.video MODEL.zip --env ENV -o FILE``."""
