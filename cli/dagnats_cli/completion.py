"""`dagnats completion`: the script that a shell sources."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="The shell to make it for")], /) -> None:
    """Print it; bash: `source <(dagnats completion bash)`, zsh: the same, fish: `dagnats completion fish | source`."""
    from dagnats_cli.main import build_app

    print(build_app(()).generate_completion(shell=shell))
