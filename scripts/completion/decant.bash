# bash completion for decant. All words come from the program's own table: decant help --complete [COMMAND].

_decant() {
    local cur=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]} words
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        words=$("$program" help --complete 2>/dev/null)
    else
        words=$("$program" help --complete "${COMP_WORDS[1]}" 2>/dev/null)
    fi
    # Flags after a '-', commands first, keys of a recipe once something was typed; files everywhere else.
    if ((COMP_CWORD == 1)) || [[ $cur == -* || ($cur == ?* && $words == *$'\n'"$cur"*) ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    fi
    if ((COMP_CWORD > 1)) && [[ $cur != -* ]]; then
        local file
        while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$cur")
        ((${#COMPREPLY[@]})) && [[ ${COMPREPLY[0]} != *= ]] && compopt -o filenames
    fi
}

complete -F _decant decant
