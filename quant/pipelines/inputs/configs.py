"""Where the config.json of a model is that a user names by a folder or a hub id."""

from __future__ import annotations

from pathlib import Path

from quant.errors import ModelError
from quant.files.model_paths import DENOISERS
from quant.text import first_line

#: Next to the weights, and where a pipeline has it.
_PLACES = ("", *DENOISERS)
CONFIG = "config.json"


def config_folder(given: str | Path) -> Path:
    """The folder of a denoiser's config.json.

    Args:
        given: that folder, a pipeline's folder, or the hub id of a pipeline or a model.

    Raises:
        ModelError: there is none.
    """
    folder = Path(given)
    if not folder.exists():
        return hub_config(str(given))
    found = next((folder / place for place in _PLACES if (folder / place / CONFIG).is_file()), None)
    if found is None:
        raise ModelError(f"{folder}: has no {CONFIG}; give the folder of a model or of its pipeline")
    return found


def hub_config(model: str) -> Path:
    """The same of a model on the hub, of which only that file is taken.

    Raises:
        ModelError: no such model, or no way to it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    why: Exception | None = None
    # The hub client waits for half a minute to say that there is no network: it is asked once, then its cache is.
    offline = False
    for place in (*DENOISERS, ""):
        name = f"{place}/{CONFIG}" if place else CONFIG
        try:
            return Path(hf_hub_download(model, name, local_files_only=offline)).parent
        except LocalEntryNotFoundError as error:  # there is no network, and it is not in the cache
            why = why or error
            offline = True
        except EntryNotFoundError as error:
            why = why or error
        except Exception as error:  # the hub client raises its own and its transport's errors
            why = error
            break
    said = first_line(why) if why is not None else "it has none"
    raise ModelError(f"{model}: its {CONFIG} is not available from the hub: {said}; give --config DIR, a folder of it")
