"""The command `ground-glass completion bash|zsh|fish`: a script for your shell, which completes commands and files."""

import argparse
from collections.abc import Sequence

SCRIPTS = {
    "bash": """_ground_glass() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "{commands}" -- "$word"))
  elif [[ "$word" == -* ]]; then
    local options="$(ground-glass "${{COMP_WORDS[1]}}" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*' | sort -u)"
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  else COMPREPLY=($(compgen -f -- "$word")); fi
}}
complete -o filenames -F _ground_glass ground-glass
""",
    "zsh": """autoload -U +X bashcompinit && bashcompinit
{bash}""",
    "fish": """complete -c ground-glass -n __fish_use_subcommand -f -a "{commands}"
""",
}


def main(args: Sequence[str] | None = None) -> int:
    """Print the script."""
    from ground_glass.__main__ import COMMANDS

    parser = argparse.ArgumentParser(
        prog="ground-glass completion",
        description="Print the completion of ground-glass for a shell.",
        epilog='bash, zsh: add eval "$(ground-glass completion bash)" to ~/.bashrc or ~/.zshrc.',
    )
    parser.add_argument("shell", choices=list(SCRIPTS))
    shell = parser.parse_args(args).shell
    bash = SCRIPTS["bash"].format(commands=" ".join(COMMANDS))
    print(SCRIPTS[shell].format(commands=" ".join(COMMANDS), bash=bash) if shell != "bash" else bash, end="")
    return 0
