# fish completion of piehole
function __piehole_candidates
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] completion fish --words $words "$current" 2>/dev/null)
        switch $line
            case '//files*'
                __fish_complete_path "$current"
            case '//folders*'
                __fish_complete_directories "$current"
            case '*'
                echo -- $line
        end
    end
end
complete -c piehole -f -a '(__piehole_candidates)'
