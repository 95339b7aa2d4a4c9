"""The command line of ``completion``."""

from __future__ import annotations

import click

from s3_uploader.cli.frame import guarded


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a script that lets a shell complete commands, options and configuration files.

    \b
    Examples:
      eval "$(s3-uploader-cli completion bash)"     in ~/.bashrc
      eval "$(s3-uploader-cli completion zsh)"      in ~/.zshrc, after compinit
      s3-uploader-cli completion fish | source      in ~/.config/fish/config.fish
    """
    from s3_uploader.cli.completion import script
    from s3_uploader.cli.output import write_text

    def work() -> int:
        write_text(script(shell))
        return 0

    return guarded(work)
