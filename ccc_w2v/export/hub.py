"""An exported folder -> a repository on the Hugging Face Hub, through huggingface_hub."""

from __future__ import annotations

from pathlib import Path

from ccc_w2v.errors import InputError


def check_repository(repository: str) -> None:
    """Raise InputError for a name that the Hub would refuse, before any work is done for it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"--push {repository}: not a repository's name ({error}); expected USER/NAME") from error


def push(folder: Path, repository: str) -> str:
    """Upload every file of ``folder`` to ``repository``, in one commit; returns the commit's address.

    A repository that does not exist is made private: whoever may publish the weights opens it there. The token is
    huggingface_hub's own (``hf auth login`` or HF_TOKEN). Raises InputError where the Hub cannot be reached or refuses.
    """
    import huggingface_hub
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError

    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Exported by ccc_w2v", repo_type="model"
        )
    except (HTTPError, LocalTokenNotFoundError, OSError) as error:
        raise InputError(
            f"--push {repository}: the folder is written, the upload failed ({str(error).splitlines()[0]}); "
            "upload it again with: hf upload " + f"{repository} {folder}"
        ) from error
    return str(commit.commit_url)
