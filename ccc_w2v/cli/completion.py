"""Print a completion of commands and options for bash and zsh: `source <(ccc-w2v completion)`."""

from __future__ import annotations

from ccc_w2v.cli.main import COMMANDS
from ccc_w2v.cli.options import command_parser

# A command's options are read from its help, which is there at once; files complete as they always do.
SCRIPT = """\
_ccc_w2v() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}}
    local commands="{commands}"
    case " {nested} " in *" $command "*) [ "$COMP_CWORD" -lt 2 ] || command+=" ${{COMP_WORDS[2]}}" ;; esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "$commands" -- "$word"))
    elif [ "$COMP_CWORD" -eq 2 ] && [[ $command == *" "* ]]; then
        COMPREPLY=($(compgen -W "{below}" -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$(ccc-w2v $command --help 2>/dev/null | grep -oE -- '--[a-z][a-z0-9-]*')" -- "$word"))
    else
        COMPREPLY=()
    fi
}}
[ -z "${{ZSH_VERSION:-}}" ] || {{ autoload -U +X compinit && compinit && autoload -U +X bashcompinit && bashcompinit; }}
complete -o default -F _ccc_w2v ccc-w2v
"""


def main() -> int:
    command_parser(__doc__).parse_args()
    nested = [words.split() for words in COMMANDS if " " in words]
    commands = dict.fromkeys(words.split()[0] for words in COMMANDS)
    first, below = dict.fromkeys(words[0] for words in nested), [words[1] for words in nested]
    print(SCRIPT.format(commands=" ".join(commands), nested=" ".join(first), below=" ".join(below)), end="")
    return 0
