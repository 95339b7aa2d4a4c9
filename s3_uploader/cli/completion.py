"""Shell completion: the scripts for the shells, and the answers to their questions.

click finds the candidates. The scripts are our own, because click's offer every file where only configurations make
sense. A script asks by starting the program with a variable set, and reads lines of kind, value and help, separated by
tabs. The kind ``json`` stands for directories and files that end in ``.json``.
"""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from s3_uploader.cli.names import COMPLETION_VARIABLE

_BASH = """\
_s3_uploader_cli() {
    local kind value word=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    while IFS=$'\\t' read -r kind value _; do
        if [[ $kind == plain ]]; then
            COMPREPLY+=("$value")
        else
            compopt -o filenames
            [[ $kind == dir ]] || mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -X "$(
                [[ $kind == json ]] && echo '!*.json')" -- "$word")
            mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- "$word")
        fi
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD @VARIABLE@=bash "$1" 2>/dev/null)
}
complete -F _s3_uploader_cli s3-uploader-cli
"""
_ZSH = """\
#compdef s3-uploader-cli
_s3_uploader_cli() {
    local line kind value help
    local -a described answers
    answers=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) @VARIABLE@=zsh ${words[1]} 2>/dev/null)}")
    for line in "${answers[@]}"; do
        IFS=$'\\t' read -r kind value help <<< "$line"
        case $kind in
            plain) described+=("${value//:/\\\\:}:$help") ;;
            json) _files -g '*.json' ;;
            dir) _files -/ ;;
            file) _files ;;
        esac
    done
    (( ${#described} )) && _describe -V 's3-uploader-cli' described
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _s3_uploader_cli "$@"
else
    compdef _s3_uploader_cli s3-uploader-cli
fi
"""
_FISH = """\
function _s3_uploader_cli
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l quoted (string escape -- $words | string join ' ')
    for line in (COMP_WORDS=$quoted COMP_CWORD=$word @VARIABLE@=fish $words[1] 2>/dev/null)
        set -l parts (string split -m 2 \\t -- $line)
        switch $parts[1]
            case plain
                printf '%s\\t%s\\n' $parts[2] $parts[3]
            case json
                __fish_complete_path $word | string match -r -- '^[^\\t]*(?:/|\\.json)(?:\\t.*)?$'
            case dir
                __fish_complete_directories $word
            case file
                __fish_complete_path $word
        end
    end
end
complete --no-files --command s3-uploader-cli --arguments '(_s3_uploader_cli)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_CLASSES: dict[str, Any] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


def script(shell: str) -> str:
    """The completion script of a shell."""
    return SCRIPTS[shell].replace("@VARIABLE@", COMPLETION_VARIABLE)


def answer(group: click.Group) -> str:
    """The candidates for the command line that the environment describes; empty for an unknown shell."""
    kind = _CLASSES.get(os.environ[COMPLETION_VARIABLE])
    if kind is None:
        return ""
    asked = kind(group, {}, "s3-uploader-cli", COMPLETION_VARIABLE)
    words, incomplete = asked.get_completion_args()
    return "".join(_line(item) for item in asked.get_completions(words, incomplete))


def _line(item: CompletionItem) -> str:
    text = " ".join((item.help or "").split())
    return f"{item.type}\t{item.value}\t{text}\n"
