"""The command `ground-glass completion bash|zsh|fish`: a script for your shell, which completes commands and options.

What may follow a command stands on the page of its `--help`, which is asked at that moment. `import` lists data sets
there, each of which has a page of its own.
"""

import argparse
from collections.abc import Sequence

# Of a page, the long options, or the words of its list.
SED = r"""sed -nE -e '/^positional/,/^$/d' \
    -e 's/^  (-[A-Za-z][^,]*, )?(--[a-z][a-z-]*).*/\2/p' -e 's/^  ([a-z][a-z0-9_-]*) .*/\1/p'"""
SCRIPTS = {
    "bash": r"""_ground_glass_words() {
  ground-glass "$@" --help 2>/dev/null | {sed}
}
_ground_glass() {
  local word="${COMP_WORDS[COMP_CWORD]}" before=$((COMP_CWORD - 1)) most=1 offers=
  [ "${COMP_WORDS[1]}" = import ] && most=2
  if [ "$before" -eq 0 ]; then offers="{commands}"
  elif [[ "$word" == -* || "$before" -lt "$most" ]]; then
    offers="$(_ground_glass_words "${COMP_WORDS[@]:1:$((before < most ? before : most))}")"
  fi
  COMPREPLY=($(compgen -W "$offers" -- "$word"))
}
complete -o default -F _ground_glass ground-glass
""",
    "zsh": r"""_ground_glass_words() {
  ground-glass "$@" --help 2>/dev/null | {sed}
}
_ground_glass() {
  local before=$((CURRENT - 2)) most=1
  [[ $words[2] == import ]] && most=2
  if (( before == 0 )); then compadd -- {commands}
  elif [[ $PREFIX == -* ]] || (( before < most )); then
    compadd -- $(_ground_glass_words "${(@)words[2,1 + (before < most ? before : most)]}")
  else _files; fi
}
compdef _ground_glass ground-glass
""",
    "fish": r"""function __ground_glass_words
  set -l before (commandline -opc)[2..-1]
  set -l page $before[1]
  test "$page" = import; and set page $before[1..2]
  if string match -q -- '-*' (commandline -ct); or test "$page" = import
    ground-glass $page --help 2>/dev/null | {sed}
  end
end
complete -c ground-glass -n __fish_use_subcommand -f -a "{commands}"
complete -c ground-glass -n 'not __fish_use_subcommand' -a '(__ground_glass_words)'
""",
}


def main(args: Sequence[str] | None = None) -> int:
    """Print the script."""
    from ground_glass.__main__ import COMMANDS

    parser = argparse.ArgumentParser(
        prog="ground-glass completion",
        description="Print the completion of ground-glass for a shell.",
        epilog='bash, zsh: add eval "$(ground-glass completion bash)" (or zsh) to ~/.bashrc, or to ~/.zshrc after '
        "compinit. fish: ground-glass completion fish > ~/.config/fish/completions/ground-glass.fish",
    )
    parser.add_argument("shell", choices=list(SCRIPTS))
    script = SCRIPTS[parser.parse_args(args).shell]
    print(script.replace("{commands}", " ".join(COMMANDS)).replace("{sed}", SED), end="")
    return 0
