"""``headrace completion``: what a shell needs to complete the command line, made from the parser itself."""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from headrace.stream import terminal

SHELLS = ("bash", "zsh", "fish")


class Command(NamedTuple):
    """A command, or one of its own commands: its words, what may follow them, and what it is for."""

    words: tuple[str, ...]
    follow: dict[str, str]  # subcommands, options and choices, each with its help
    help: str


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = (), text: str = "") -> Iterator[Command]:
    """Yield every command of a parser, the program itself first."""
    follow: dict[str, str] = {}
    below: list[tuple[str, argparse.ArgumentParser, str]] = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask what it was given
        said = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            helps = {one.dest: str(one.help or "") for one in action._choices_actions}  # noqa: SLF001 - as above
            below += [(name, one, helps.get(name, "")) for name, one in action.choices.items()]
            follow |= {name: helps.get(name, "") for name in action.choices}
        elif action.option_strings:
            follow[max(action.option_strings, key=len)] = said
        elif action.choices:
            follow |= {str(choice): said for choice in action.choices}
    yield Command(words, follow, text)
    for name, one, told in below:
        yield from commands(one, (*words, name), told)


def main(parser: argparse.ArgumentParser, shell: str) -> int:
    """Print the script for a shell."""
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    terminal.line(script(list(commands(parser))))
    return 0


def _cases(every: list[Command]) -> str:
    return "\n".join(
        f'        "{" ".join(one.words)}") follow="{" ".join(one.follow)}" ;;' for one in every if one.words
    )


_BASH = """\
# Complete headrace in bash: source <(headrace completion bash)
_headrace() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" follow="{top}" said="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        [[ $word == -* ]] && break
        said="${{said:+$said }}$word"
        case "$said" in
{cases}
        esac
    done
    COMPREPLY=($(compgen -W "$follow" -- "$current"))
    if [[ ${{#COMPREPLY[@]}} -eq 0 && $current != -* ]]; then
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}}
complete -o filenames -F _headrace headrace"""


def _bash(every: list[Command]) -> str:
    return _BASH.format(top=" ".join(every[0].follow), cases=_cases(every))


def _zsh(every: list[Command]) -> str:
    # zsh runs the script of bash, word for word.
    script = _bash(every).replace("# Complete headrace in bash: source <(headrace completion bash)\n", "")
    return (
        "# Complete headrace in zsh: source <(headrace completion zsh)\n"
        "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"
        f"{script}"
    )


def _fish(every: list[Command]) -> str:
    lines = ["# Complete headrace in fish: headrace completion fish | source", "complete -c headrace -e"]
    for one in every:
        below = [" ".join(other.words) for other in every if other.words[:-1] == one.words and other.words]
        conditions = [f"__fish_seen_subcommand_from {word}" for word in one.words]
        names = {words.rsplit(" ", 1)[-1] for words in below}
        if names:
            conditions.append(f"not __fish_seen_subcommand_from {' '.join(sorted(names))}")
        where = "; and ".join(conditions)
        for name, text in one.follow.items():
            told = text.replace("'", "\\'")
            what = f"-l {name.removeprefix('--')}" if name.startswith("--") else f"-a {name}"
            alone = f"complete -c headrace -n '{where}' {what} -d '{told}'"
            lines.append(alone)
    return "\n".join(lines)
